"""What the proxy's rules stand on."""

import pytest

from _modules import chatmail_proxy


@pytest.fixture
def configure_loader_modules():
    return {chatmail_proxy: {}}


def test_interfaces_on_which_the_kernel_takes_routes_are_found(tmp_path):
    for interface, value in {"all": 1, "default": 1, "lo": 1, "eth0": 2, "eth1": 0, "eth0.7": 1}.items():
        directory = tmp_path / "proc/sys/net/ipv6/conf" / interface
        directory.mkdir(parents=True)
        (directory / "accept_ra").write_text(f"{value}\n")
    assert chatmail_proxy.interfaces_with_advertised_routes(tmp_path) == ["default", "eth0", "eth0.7"]


def test_a_host_without_ipv6_has_none(tmp_path):
    assert chatmail_proxy.interfaces_with_advertised_routes(tmp_path) == []


def test_nothing_is_confirmed_that_is_not_on_trial(tmp_path):
    assert not chatmail_proxy.confirm(str(tmp_path))
    assert not chatmail_proxy.wait_until_confirmed(5, str(tmp_path))


def test_a_confirmation_ends_the_wait(tmp_path):
    (tmp_path / "loaded").touch()
    assert chatmail_proxy.confirm(str(tmp_path))
    assert chatmail_proxy.wait_until_confirmed(5, str(tmp_path))


def test_the_salt_ssh_that_applies_is_asked_to_connect(tmp_path, monkeypatch):
    (tmp_path / "loaded").touch()

    def reach(request, seconds):
        assert (request, seconds) == ({"service": "reach"}, 5)
        (tmp_path / "reached").touch()

    monkeypatch.setattr(chatmail_proxy, "ask", reach)
    assert chatmail_proxy.wait_until_confirmed(5, str(tmp_path))
