"""A host is looked at by its files: each test builds the part of a root directory that it is about."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from _modules import chatmail_preflight

DEBIAN_12 = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
PORTS = {
    "25/tcp": ["postfix"],
    "53/tcp": ["unbound", "systemd-resolved"],
    "53/udp": ["unbound", "systemd-resolved"],
    "143/tcp": ["dovecot"],
    "10080/tcp": ["filtermail", "postfix"],
}


class Host:
    """A root directory with an empty /proc."""

    def __init__(self, root: Path):
        self.root = root
        self.tables = {name: ["  sl  local_address ..."] for name in ("tcp", "tcp6", "udp")}
        self.write("etc/os-release", DEBIAN_12)
        self.write("var/lib/dpkg/status", "")
        self.write("proc/self/status", "")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def listen(self, port: int, inode: int, table: str = "tcp", state: str | None = None) -> None:
        """Add a socket to a table of /proc/net, listening unless another state is given."""
        address = "0" * (32 if table.endswith("6") else 8)
        state = state or ("0A" if table.startswith("tcp") else "07")
        self.tables[table].append(f" 0: {address}:{port:04X} {address}:0000 {state} 0:0 0:0 0 0 0 {inode} 1 0")
        self.write(f"proc/net/{table}", "\n".join(self.tables[table]) + "\n")

    def process(self, pid: int, name: str, cgroup: str, *inodes: int) -> None:
        self.write(f"proc/{pid}/comm", f"{name}\n")
        self.write(f"proc/{pid}/cgroup", f"{cgroup}\n")
        descriptors = self.root / f"proc/{pid}/fd"
        descriptors.mkdir(exist_ok=True)
        (descriptors / "0").symlink_to("/dev/null")
        for number, inode in enumerate(inodes, 3):
            (descriptors / str(number)).symlink_to(f"socket:[{inode}]")

    def package(self, name: str, **conffiles: str) -> None:
        """Note a package with conffiles (path with _ for / to content) as dpkg would."""
        lines = [f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nConffiles:"]
        lines += [f" {path} {md5(text)}" for path, text in conffiles.items()]
        with (self.root / "var/lib/dpkg/status").open("a") as status:
            status.write("\n".join(lines) + "\nDescription: x\nMaintainer: x <x@example.org>\n\n")

    def problems(self, takeover=False, addresses=()) -> list[str]:
        return chatmail_preflight.problems(PORTS, takeover, addresses, self.root)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def host(tmp_path, monkeypatch):
    # Whoever runs the tests.
    monkeypatch.setattr(chatmail_preflight.os, "geteuid", lambda: 0)
    return Host(tmp_path)


def test_a_bare_debian_12_host_passes(host):
    assert host.problems() == []


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (
            'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian GNU/Linux 11"\n',
            "Debian GNU/Linux 11",
        ),
        ("ID=ubuntu\nVERSION_ID=12\nPRETTY_NAME='Ubuntu 12'\n", "Ubuntu 12"),
        ("ID=alpine\n", "alpine"),
        ("ID=debian\nPRETTY_NAME=Debian sid\n", "Debian sid"),
        ("garbage\n\n=\n", "a system without /etc/os-release"),
    ],
)
def test_another_system_is_named(host, release, name):
    host.write("etc/os-release", release)
    (message,) = host.problems()
    assert f"the operating system is {name};" in message
    assert "Debian 12 (bookworm) or Debian 13 (trixie): install one of them" in message


def test_both_releases_are_right(host):
    host.write("etc/os-release", 'ID=debian\nVERSION_ID="13"\n')
    assert host.problems() == []


def test_os_release_may_be_in_usr_lib_only(host):
    (host.root / "etc/os-release").unlink()
    host.write("usr/lib/os-release", DEBIAN_12)
    assert host.problems() == []
    (host.root / "usr/lib/os-release").unlink()
    assert "without /etc/os-release" in host.problems()[0]


def test_a_foreign_process_is_named_with_port_and_remedy(host):
    host.listen(25, 100)
    host.process(812, "exim4", "0::/system.slice/exim4.service", 100)
    (message,) = host.problems()
    for part in (
        "port 25/tcp",
        "postfix",
        "exim4 (process 812, exim4.service)",
        "`systemctl stop exim4.service && systemctl disable exim4.service`",
    ):
        assert part in message


def test_all_taken_ports_and_the_wrong_system_come_at_once(host):
    host.write("etc/os-release", "ID=arch\n")
    host.listen(25, 100)
    host.listen(143, 101, "tcp6")
    host.listen(53, 102, "udp")
    host.process(7, "strange", "0::/system.slice/strange.service", 100, 101, 102)
    assert [message.split(" is ")[0] for message in host.problems()] == [
        "the operating system",
        "port 25/tcp",
        "port 53/udp",
        "port 143/tcp",
    ]


@pytest.mark.parametrize(
    ("port", "name", "cgroup"),
    [
        (25, "master", "0::/system.slice/system-postfix.slice/postfix@-.service"),
        (25, "smtpd", "0::/system.slice/system-postfix.slice/postfix@-.service"),
        (25, "master", "0::/user.slice/user-0.slice/session-3.scope"),
        (143, "imap-login", "0::/system.slice/dovecot.service"),
        (143, "dovecot", "0::/"),
        (53, "unbound", "0::/system.slice/unbound.service"),
        (53, "systemd-resolve", "0::/system.slice/systemd-resolved.service"),
        (10080, "python3", "0::/system.slice/filtermail.service"),
    ],
)
def test_the_relays_own_daemons_are_at_home(host, port, name, cgroup):
    host.listen(port, 100)
    host.process(50, name, cgroup, 100)
    assert host.problems() == []


@pytest.mark.parametrize(
    ("port", "name", "cgroup"),
    [
        # Cyrus calls its first process as Postfix does.
        (25, "master", "0::/system.slice/cyrus-imapd.service"),
        (143, "master", "0::/system.slice/system-postfix.slice/postfix@-.service"),
        (53, "dnsmasq", "0::/system.slice/dnsmasq.service"),
        (10080, "python3", "0::/user.slice/user-0.slice/session-3.scope"),
        # A container on the host's own network.
        (143, "dovecot", "0::/system.slice/docker-0123456789abcdef.scope"),
    ],
)
def test_a_known_name_in_the_wrong_place_is_foreign(host, port, name, cgroup):
    host.listen(port, 100)
    host.process(50, name, cgroup, 100)
    (message,) = host.problems()
    assert f"port {port}/tcp" in message
    assert f"{name} (process 50" in message


def test_the_first_process_stands_for_those_that_share_its_socket(host):
    host.listen(143, 100)
    host.listen(143, 101, "tcp6")
    for pid in (300, 301, 302):
        host.process(pid, "imap-login", "0::/system.slice/other.service", 100, 101)
    host.process(299, "dovecot", "0::/system.slice/other.service", 100, 101)
    assert len(host.problems()) == 1
    assert "process 299" in host.problems()[0]


def test_process_1_is_asked_last_as_it_holds_the_sockets_of_others(host):
    host.listen(143, 100)
    host.process(1, "systemd", "0::/init.scope", 100)
    host.process(9, "dovecot", "0::/system.slice/dovecot.service", 100)
    assert host.problems() == []


SOCKET_UNITS = """\
Listen=/run/dbus/system_bus_socket (Stream)
Id=dbus.socket

Listen=127.0.0.1:10080 (Stream)
Id=filtermail.socket

Listen=[::]:143 (Stream)
Listen=[::]:143 (Datagram)
Id=cyrus.socket
"""


@pytest.fixture
def socket_units(monkeypatch):
    """systemd tells of these."""
    run = subprocess.run

    def answer(argv, **options):
        if argv[0] == "systemctl":
            return subprocess.CompletedProcess(argv, 0, stdout=SOCKET_UNITS)
        return run(argv, **options)

    monkeypatch.setattr(subprocess, "run", answer)


def test_a_socket_that_waits_for_activation_is_traced_to_its_unit(host, socket_units):
    host.listen(143, 100)
    host.process(1, "systemd", "0::/init.scope", 100)
    (message,) = host.problems()
    assert "taken by systemd (process 1, cyrus.socket)" in message
    assert "systemctl stop cyrus.socket && systemctl disable cyrus.socket" in message


def test_a_socket_of_ours_whose_service_does_not_run_is_at_home(host, socket_units):
    host.listen(10080, 100)
    host.process(1, "systemd", "0::/init.scope", 100)
    assert host.problems() == []


def test_a_socket_whose_process_is_hidden_is_still_reported(host):
    host.listen(25, 100)
    assert "cannot be seen from here" in host.problems()[0]


def test_a_process_that_ends_meanwhile_does_no_harm(host):
    host.listen(25, 100)
    (host.root / "proc/70").mkdir()
    host.process(71, "exim4", "0::/system.slice/exim4.service", 100)
    (host.root / "proc/71/comm").unlink()
    assert "just ended" in host.problems()[0]


def test_other_ports_connections_and_protocols_do_not_matter(host):
    host.listen(22, 100)
    host.listen(25, 101, state="01")
    host.listen(25, 102, "udp")
    host.process(71, "other", "0::/system.slice/other.service", 100, 101, 102)
    assert host.problems() == []


FOREIGN = [
    ("etc/postfix/main.cf", "/etc/postfix"),
    ("etc/postfix/master.cf", "/etc/postfix"),
    ("etc/dovecot/dovecot.conf", "/etc/dovecot"),
    ("etc/dovecot/conf.d/10-mail.conf", "/etc/dovecot"),
    ("etc/nginx/nginx.conf", "/etc/nginx"),
    ("etc/nginx/sites-enabled/shop", "/etc/nginx"),
    ("etc/unbound/unbound.conf", "/etc/unbound"),
]


@pytest.mark.parametrize("file", [file for file, _ in FOREIGN])
def test_a_foreign_configuration_is_refused_and_named(host, file):
    host.write(file, "something = own\n")
    (message,) = host.problems()
    assert f"not its own: /{file}." in message
    assert "takeover: true" in message


def test_all_foreign_files_are_named_at_once(host):
    for file, _ in FOREIGN:
        host.write(file, "something = own\n")
    (message,) = host.problems()
    assert all(f"/{file}" in message for file, _ in FOREIGN)


@pytest.mark.parametrize(("file", "directory"), FOREIGN)
def test_with_takeover_it_is_no_obstacle_but_is_known(host, file, directory):
    host.write(file, "something = own\n")
    assert host.problems(takeover=True) == []
    assert chatmail_preflight.foreign_configurations(host.root) == {directory: [f"/{file}"]}


def test_takeover_is_no_excuse_for_a_taken_port(host):
    host.listen(25, 100)
    assert len(host.problems(takeover=True)) == 1


def test_files_as_their_packages_brought_them_are_not_foreign(host):
    host.write("etc/unbound/unbound.conf", "packaged")
    host.write("etc/nginx/nginx.conf", "packaged")
    site = host.write("etc/nginx/sites-available/default", "site")
    (host.root / "etc/nginx/sites-enabled").mkdir()
    (host.root / "etc/nginx/sites-enabled/default").symlink_to(site)
    host.package("unbound", **{"/etc/unbound/unbound.conf": "packaged"})
    host.package("nginx-common", **{"/etc/nginx/nginx.conf": "packaged", "/etc/nginx/sites-available/default": "site"})
    host.write("etc/dovecot/conf.d/10-mail.conf", "packaged")
    host.write("var/lib/ucf/hashfile", f"{md5('packaged')}  /etc/dovecot/conf.d/10-mail.conf\n")
    host.write("usr/share/postfix/master.cf.dist", "packaged")
    host.write("etc/postfix/master.cf", "packaged")
    assert host.problems() == []


def test_an_edited_file_of_a_package_is_foreign(host):
    host.write("etc/unbound/unbound.conf", "edited")
    host.package("unbound", **{"/etc/unbound/unbound.conf": "packaged"})
    assert "/etc/unbound/unbound.conf" in host.problems()[0]


def test_other_files_of_unbound_stay_in_force_and_are_no_matter(host):
    host.write("etc/unbound/unbound.conf.d/forward.conf", "own")
    assert host.problems() == []


def test_a_host_whose_relay_has_moved_is_refused_but_may_be_a_proxy(host):
    host.write("etc/chatmail/moved", "new\n")
    (message,) = host.problems()
    assert "has moved to new: apply to that one" in message
    assert chatmail_preflight.problems(PORTS, root=host.root, relay=False) == []


def test_adoption_keeps_directories_aside_as_they_are(host):
    host.write("etc/dovecot/private/key.pem", "secret").chmod(0o600)
    host.write("etc/dovecot/dovecot.conf", "own")
    (host.root / "etc/dovecot/link").symlink_to("/nowhere")
    kept = chatmail_preflight.adopt(["/etc/dovecot"], host.root)
    copy = Path(kept["/etc/dovecot"])
    assert copy.is_relative_to(host.root / "var/backups/chatmail")
    assert (copy / "dovecot.conf").read_text() == "own"
    assert (copy / "private/key.pem").stat().st_mode & 0o777 == 0o600
    assert str((copy / "link").readlink()) == "/nowhere"
    assert copy.parents[1].stat().st_mode & 0o777 == 0o700
    noted = json.loads((host.root / "etc/chatmail/adopted").read_text())
    assert noted["kept_aside"] == kept
    assert noted["adopted"]


def test_an_adopted_host_owns_the_configuration_found_on_it(host):
    assert chatmail_preflight.adopt([], host.root) == {}
    assert chatmail_preflight.adopted(host.root)
    host.write("etc/postfix/main.cf", "ours")
    assert host.problems() == []
    host.listen(25, 100)
    assert len(host.problems()) == 1


def test_a_copy_that_fails_leaves_nothing_behind_and_adopts_nothing(host):
    host.write("etc/dovecot/dovecot.conf", "own")
    with pytest.raises(OSError, match="/etc/nginx"):
        chatmail_preflight.adopt(["/etc/dovecot", "/etc/nginx"], host.root)
    assert list((host.root / "var/backups/chatmail").iterdir()) == []
    assert not chatmail_preflight.adopted(host.root)


def test_an_address_that_daemons_shall_listen_on_must_be_the_hosts(host):
    assert host.problems(addresses=["127.0.0.1"]) == []
    (message,) = host.problems(addresses=["192.0.2.1"])
    assert message.startswith("192.0.2.1 is no address of this host")


def test_whoever_is_not_root_is_told_of_sudo(host, monkeypatch):
    assert host.problems() == []
    monkeypatch.setattr(chatmail_preflight.os, "geteuid", lambda: 65534)
    (message,) = host.problems()
    assert message.startswith("this runs as nobody, not as root: set `sudo: True`")


def test_only_a_host_that_is_not_a_relay_yet_is_judged_by_its_size(monkeypatch):
    monkeypatch.setattr(chatmail_preflight.chatmail_capacity, "shortages", lambda root, mailboxes_dir: ["too small"])
    for is_ours, found in ((False, ["too small"]), (True, [])):
        monkeypatch.setattr(chatmail_preflight, "adopted", lambda is_ours=is_ours: is_ours)
        assert chatmail_preflight.shortages("/mail") == found
