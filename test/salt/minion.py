"""A minion's configuration for tests: this checkout's states and modules, and nothing outside a scratch directory."""

from pathlib import Path

import salt.config
import yaml

CHECKOUT = Path(__file__).parents[2]


def configuration(scratch: Path) -> dict:
    """
    Return the options of a masterless minion that sees what a relay sees of this checkout.

    Arguments:
        scratch: directory for the configuration file, caches, keys and logs.
    """
    settings = {
        "id": "relay",
        "root_dir": str(scratch),
        "file_client": "local",
        "file_roots": {"base": [str(CHECKOUT / "etc/roots")]},
        "pillar_roots": {"base": [str(CHECKOUT / "test/salt/pillar")]},
        "module_dirs": [str(CHECKOUT / "etc/ext")],
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
    }
    path = scratch / "etc" / "salt" / "minion"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings))
    return salt.config.minion_config(str(path))
