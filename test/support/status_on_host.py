"""
Runs on a relay: prints what ``chatmail_relay.examine`` returns, as JSON, without the seconds that Salt takes to start.

Usage: python3 status_on_host.py EXTENSIONS SALT [CLOCK_OFFSET_S]: the directory of our execution modules and utils, and
that of Salt's library.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

NEEDED = ("settings", "preflight", "cert", "dkim", "dns", "dovecot", "queue", "probe", "relay")

extensions, library, *offset = sys.argv[1:]
sys.path += [library, str(Path(extensions, "utils"))]

# Settings name the public addresses, so the host need not know its own.
functions = {"grains.get": lambda key, default: default}
for name in (f"chatmail_{noun}" for noun in NEEDED):
    spec = importlib.util.spec_from_file_location(name, Path(extensions, "modules", f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__salt__ = functions
    module.__opts__ = {"id": "relay"}
    aliases = getattr(module, "__func_alias__", {})
    functions.update(
        (f"{name}.{aliases.get(key, key)}", value) for key, value in vars(module).items() if callable(value)
    )
clock = time.time() - float(offset[0] if offset else 0)
print(json.dumps(functions["chatmail_relay.examine"](clock=clock)))
