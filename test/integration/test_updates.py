"""Debian's security updates are installed by themselves, and what they concern is restarted."""

import re

from test.lab import Host

ON_BOTH_RELEASES = True


def pid_of(host: Host, unit: str) -> str:
    return host.run(["systemctl", "show", "--property=MainPID", unit]).stdout.strip()


def test_security_updates_alone_are_installed_unattended_and_nothing_reboots(one_host):
    done = one_host.run(["unattended-upgrade", "--dry-run", "--debug"], timeout=300)
    allowed = re.findall("Allowed origins are: (.*)", done.stdout + done.stderr)
    assert allowed == [f"origin=Debian,codename={one_host.release}-security,label=Debian-Security"]
    apt = one_host.run(["apt-config", "dump"]).stdout
    assert 'APT::Periodic::Unattended-Upgrade "1";' in apt
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in apt


def test_a_service_with_a_library_of_before_an_upgrade_is_restarted_and_no_other(one_host):
    library = one_host.run(["sh", "-c", "readlink -f /usr/lib/*/libopendkim.so.11"]).stdout.strip()
    one_host.run(["sh", "-c", f"cp --preserve {library} {library}.new && mv {library}.new {library}"])
    before = {unit: pid_of(one_host, unit) for unit in ("opendkim", "unbound", "dovecot")}
    done = one_host.run(["apt-get", "-qq", "--reinstall", "install", "distro-info-data"], timeout=120)
    assert "restarts, for they run what was before the upgrade: opendkim.service" in done.stdout
    one_host.run(["systemctl", "start", "opendkim"])
    changed = {unit for unit, pid in before.items() if pid_of(one_host, unit) != pid}
    assert changed == {"opendkim"}
