"""Many logins at once, of addresses that exist and of new ones: none fails, and no daemon of ours grows."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from test.relay.chat import credentials
from test.relay.delivery import User, new_user
from test.support.mailing import imap_login

CLIENTS = 50
LOGINS = 1000
CREATIONS = 500
MEMORY_MAX = 30  # MB, of each daemon at rest
GROWTH_MAX = 3  # MB


@pytest.fixture
def memory(one_host):
    """Ask for the resident memory of each of our daemons, in MB."""

    def measure() -> dict[str, float]:
        listed = ["systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain"]
        names = [line.split()[0] for line in one_host.run(listed).stdout.splitlines() if "hatmail" in line]
        result = {}
        for name in names:
            pid = one_host.run(["systemctl", "show", "-P", "MainPID", name]).stdout.strip()
            status = one_host.read(f"/proc/{pid}/status")
            if "VmRSS" in status:
                result[name] = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        return result

    return measure


def test_logins_and_creations_at_once(one, one_host, memory, capsys):
    existing = [new_user(one) for _ in range(10)]
    new = [User(one, *credentials(one.domain)) for _ in range(CREATIONS)]
    # systemd starts this one when somebody asks.
    one_host.run(["systemctl", "start", "chatmail-turn.service"])
    before = memory()
    assert before.keys() >= {"doveauth.service", "lastlogin.service", "filtermail.service"}
    figures = []
    for what, users in {
        "logins of existing addresses": existing * (LOGINS // len(existing)),
        "creations": new,
    }.items():
        begun = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            succeeded = sum(pool.map(imap_login, users))
        figures.append(f"{len(users)} {what} by {CLIENTS} clients: {len(users) / (time.monotonic() - begun):.0f} /s")
        assert succeeded == len(users)
    after = memory()
    with capsys.disabled():
        print("", *figures, "", f"{'resident memory':30}{'at rest':>10}{'after':>10}", sep="\n")
        for name, megabytes in sorted(after.items()):
            print(f"{name.removesuffix('.service'):30}{before[name]:7.1f} MB{megabytes:7.1f} MB")
    assert max(before.values()) <= MEMORY_MAX
    assert max(after.values()) <= MEMORY_MAX
    assert max(after[name] - before[name] for name in after) <= GROWTH_MAX
