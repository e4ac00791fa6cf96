"""Do Salt's output, its files here, or its files on a host have a private key in them?"""

import subprocess
from collections.abc import Iterable

from test.lab import Host, Lab
from test.lab.saltconf import parse_result

# Files that programs leave behind on a host; not the credentials of systemd's services, nor coturn's own configuration.
PLACES = ["--exclude-dir=credentials", "--exclude-dir=coturn", "/tmp", "/var/tmp", "/run", "/root", "/var/cache"]


def apply_aloud(lab: Lab, name: str) -> tuple[dict, str]:
    """Apply everything with the log of debugging. Returns the states, and all that was printed."""
    args = ("state.apply", "chatmail")
    done = subprocess.run(
        [*lab.salt_ssh_argv(name, *args), "--log-level=debug"],
        cwd=lab.layout.checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "[DEBUG" in done.stderr
    return parse_result(name, args, done.returncode, done.stdout, done.stderr), done.stdout + done.stderr


def telling(text: str) -> str:
    """The line in the middle of a key: enough to find it, whatever its line ends became."""
    lines = text.splitlines()
    return lines[len(lines) // 2]


def assert_nowhere(lab: Lab, host: Host, secrets: Iterable[str], printed: str) -> None:
    """None of the ``secrets`` is in what was ``printed``, in a file of salt-ssh's here, or in a temporary one there."""
    kept = [path.read_bytes() for path in (lab.layout.salt / "run").rglob("*") if path.is_file()]
    assert kept
    for secret in secrets:
        assert len(secret) > 30
        assert secret not in printed
        assert not any(secret.encode() in content for content in kept)
        found = host.run(["grep", "-rlF", secret, *PLACES], check=False).stdout
        assert found == ""
