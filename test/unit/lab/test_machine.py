from pathlib import Path

import pytest

from test.lab import LabError, machine
from test.lab.layout import Layout

MOUNTINFO = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd
31 22 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
40 22 0:44 / /with\040space/lab/root rw - overlay overlay rw,lowerdir=/a,upperdir=/b
"""


def test_mount_points_are_read_with_kind_and_options():
    points = machine.mount_points(MOUNTINFO)
    assert points[1] == (Path("/sys/fs/cgroup/systemd"), "cgroup", "rw,xattr,name=systemd")
    assert points[3][0] == Path("/with space/lab/root")


def test_a_lock_that_another_holds_is_waited_for_and_named(tmp_path):
    path = tmp_path / "cache" / "lock"
    with machine.lock(path), pytest.raises(LabError, match=f"fuser -v {path}"), machine.lock(path, patience=0.2):
        pytest.fail("two held the same lock")
    with machine.lock(path, patience=0):
        assert path.exists()


@pytest.fixture
def limits(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "INOTIFY", tmp_path)
    (tmp_path / "max_user_instances").write_text("128\n")
    (tmp_path / "max_user_watches").write_text("192536\n")
    return tmp_path


def test_only_low_inotify_limits_are_raised_and_put_back(limits):
    low = machine.low_inotify_limits()
    assert low == {"max_user_instances": 128}
    machine.raise_inotify_limits(low)
    assert int((limits / "max_user_instances").read_text()) == 65535
    assert int((limits / "max_user_watches").read_text()) == 192536
    machine.restore_inotify_limits(low)
    assert int((limits / "max_user_instances").read_text()) == 128


def test_a_limit_that_somebody_has_changed_since_is_left_alone(limits):
    low = machine.low_inotify_limits()
    machine.raise_inotify_limits(low)
    (limits / "max_user_instances").write_text("100000\n")
    machine.restore_inotify_limits(low)
    assert int((limits / "max_user_instances").read_text()) == 100000


def test_remove_tree_removes_files_and_takes_absence_for_done(tmp_path):
    (tmp_path / "lab" / "deep").mkdir(parents=True)
    machine.remove_tree(tmp_path / "lab")
    machine.remove_tree(tmp_path / "lab")
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("release", [{"ID": "debian", "VERSION_ID": "13"}, {"ID": "ubuntu", "VERSION_ID": "12"}, {}])
def test_other_systems_are_refused(monkeypatch, release):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine.platform, "freedesktop_os_release", lambda: release)
    with pytest.raises(LabError, match="needs Debian 12"):
        machine.require_root_on_debian_12()


def test_who_is_not_root_is_refused(monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root"):
        machine.require_root_on_debian_12()


@pytest.fixture
def policy(tmp_path, monkeypatch):
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(machine, "POLICY", policy)
    monkeypatch.setattr(machine, "PACKAGES", {"tool": str(tmp_path / "tool"), "there": str(tmp_path)})
    return policy


def test_missing_packages_are_installed_while_daemons_are_held(policy, monkeypatch):
    seen = []
    monkeypatch.setattr(machine, "run", lambda argv, **_: seen.append((argv, policy.stat().st_mode & 0o777)))
    assert machine.install_packages() == ["tool"]
    assert [argv[-1] for argv, _ in seen] == ["update", "tool"]
    assert {mode for _, mode in seen} == {0o755}
    assert not policy.exists()


def test_the_hold_on_daemons_ends_when_an_installation_fails(policy, monkeypatch):
    def fail(argv, **_):
        raise LabError("no network")

    monkeypatch.setattr(machine, "run", fail)
    with pytest.raises(LabError, match="no network"):
        machine.install_packages()
    assert not policy.exists()


def test_an_administrators_policy_stays(policy, monkeypatch):
    policy.write_text("theirs")
    monkeypatch.setattr(machine, "run", lambda argv, **_: "")
    machine.install_packages()
    assert policy.read_text() == "theirs"


def test_a_lab_whose_network_another_has_is_refused(monkeypatch):
    names = [Layout(name, Path("/checkout"), Path("/cache")) for name in ("cm", "at")]
    assert names[0].ipv4_network == names[1].ipv4_network
    monkeypatch.setattr(machine, "interfaces", lambda: [{"ifname": names[1].bridge}])
    with pytest.raises(LabError, match=r"cmlabat has the network 198\.18\.252\.0/24 already: choose another LAB_NAME"):
        machine.set_up_bridge(names[0])
