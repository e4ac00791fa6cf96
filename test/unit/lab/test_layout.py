from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from test.lab import LabError
from test.lab.layout import Layout, check_host_name, dns_name, layout_from_environment, release_of

USUAL = Layout("", Path("/checkout"), Path("/cache"))
OTHER = Layout("xyz", Path("/checkout"), Path("/cache"))


def test_addresses_show_the_number_of_the_host():
    assert USUAL.ipv4(11) == IPv4Address("198.18.0.11")
    assert USUAL.ipv6(11) == IPv6Address("fdc4:a71e:1ab0::11")


def test_reverse_zones_hold_the_reverse_pointers_of_all_hosts():
    for layout in (USUAL, OTHER):
        ipv4_zone, ipv6_zone = layout.reverse_zones
        assert f"{layout.ipv4(249).reverse_pointer}.".endswith(f".{ipv4_zone}")
        assert f"{layout.ipv6(249).reverse_pointer}.".endswith(f".{ipv6_zone}")


def test_two_labs_share_no_name_and_no_address():
    assert USUAL.bridge != OTHER.bridge
    assert USUAL.state != OTHER.state
    assert not USUAL.ipv4_network.overlaps(OTHER.ipv4_network)
    assert not USUAL.ipv6_network.overlaps(OTHER.ipv6_network)
    assert not USUAL.cable_pattern.fullmatch(f"vb-{OTHER.machine(11)}")


def test_names_of_interfaces_fit_into_the_kernels_15_bytes():
    assert len(f"vb-{OTHER.machine(249)}") <= 15


@pytest.mark.parametrize(
    ("host", "environ", "release"),
    [
        ("_one.test", {}, "bookworm"),
        ("_two.test", {}, "trixie"),
        ("three.test", {}, "bookworm"),
        ("three.test", {"RELEASE": "trixie"}, "trixie"),
        ("three.test", {"RELEASE": "13"}, "trixie"),
        ("_two.test", {"RELEASE": "12"}, "bookworm"),
    ],
)
def test_environment_or_name_choose_the_release_of_a_new_host(host, environ, release):
    assert release_of(host, environ) == release


def test_an_unknown_release_is_refused_with_those_there_are():
    with pytest.raises(LabError, match=r"'sid'.*bookworm \(12\), trixie \(13\)"):
        release_of("three.test", {"RELEASE": "sid"})


def test_environment_chooses_lab_and_cache():
    layout = layout_from_environment({"LAB_NAME": "b", "LAB_CACHE": "/elsewhere"})
    assert (layout.name, layout.cache) == ("b", Path("/elsewhere"))
    assert layout_from_environment({}).name == ""


@pytest.mark.parametrize("name", ["four", "B", "../", "1"])
def test_a_name_unfit_for_an_interface_is_refused(name):
    with pytest.raises(LabError, match="LAB_NAME"):
        layout_from_environment({"LAB_NAME": name})


@pytest.mark.parametrize("host", ["_one.test", "three.test", "a.b-c.test"])
def test_labels_under_test_are_host_names(host):
    assert check_host_name(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "ns",
        "test",
        ".test",
        "one.example",
        "../x.test",
        "a b.test",
        "A.test",
        "-a.test",
        "a.test\n",
        "a" * 70 + ".test",
    ],
)
def test_other_host_names_are_refused(host):
    with pytest.raises(LabError, match="no name for a lab host"):
        check_host_name(host)


def test_the_name_server_is_named_in_the_zone():
    assert dns_name("ns") == "ns.test."
    assert dns_name("_one.test") == "_one.test."
