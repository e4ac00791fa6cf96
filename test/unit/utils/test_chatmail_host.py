"""The relay's commands run where no Salt is."""

import json
import os
import subprocess
import sys

import chatmail_host
from test.salt.minion import CHECKOUT

# As on a relay, where nothing of Salt's can be imported.
WITHOUT_SALT = "import sys, json; sys.modules['salt'] = None; import chatmail_host; "


def run(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": f"{CHECKOUT / '_utils'}:{CHECKOUT / '_modules'}"}
    argv = [sys.executable, "-P", "-c", WITHOUT_SALT + code]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_commands_are_there_by_their_names_and_helpers_of_others_are_not():
    names = json.loads(run("print(json.dumps(list(chatmail_host.commands())))"))
    assert {"chatmail_relay.examine", "chatmail_queue.list", "chatmail_account.ban", "chatmail_dns.check"} <= set(names)
    # What a module imports is no command.
    assert not {"chatmail_queue.list_", "chatmail_account.ask", "chatmail_relay.survey"} & set(names)


def test_every_function_that_they_and_the_checks_call_is_there():
    sources = [*(CHECKOUT / "_utils").glob("chatmail_checks*.py"), *(CHECKOUT / "_utils").glob("chatmail_host.py")]
    sources += [CHECKOUT / f"_modules/{name}.py" for name in chatmail_host.MODULES]
    code = f"""
import re, pathlib
found = chatmail_host.commands()
called = set()
for path in {list(map(str, sources))}:
    called |= set(re.findall(r'(?:__salt__|call)\\["([a-z_.]+)"\\]', pathlib.Path(path).read_text()))
print(json.dumps(sorted(called - found.keys())))
"""
    # What only an apply or a rotation of keys does, and a build of Dovecot's plugin.
    needs_salt = {"slsutil.renderer", "service.restart", "pkg.refresh_db", "cmd.run_all", "cmd.run_stdout"}
    left = {name for name in json.loads(run(code)) if not name.startswith("chatmail_package.")}
    assert left <= needs_salt


def test_a_host_that_is_no_relay_is_a_finding_without_salt_too():
    code = """
import chatmail_relay, pathlib
functions = chatmail_host.commands()
chatmail_relay.RELAY = pathlib.Path('/nonexistent/relay.json')
print(json.dumps(functions['chatmail_relay.examine']()))
"""
    found = json.loads(run(code))
    assert [one["kind"] for one in found["findings"]] == ["not-a-relay"]


def test_the_hosts_addresses_are_as_salts_grains_have_them(monkeypatch):
    said = json.dumps(
        [
            {"addr_info": [{"family": "inet", "local": "127.0.0.1"}, {"family": "inet6", "local": "::1"}]},
            {"addr_info": [{"family": "inet", "local": "192.0.2.7"}, {"family": "inet"}]},
            {},
        ]
    )
    monkeypatch.setattr(chatmail_host, "run", lambda argv: subprocess.CompletedProcess(argv, 0, said, ""))
    assert chatmail_host._grain("ipv4", []) == ["127.0.0.1", "192.0.2.7"]
    assert chatmail_host._grain("ipv6", []) == ["::1"]
    assert chatmail_host._grain("os", "none") == "none"
