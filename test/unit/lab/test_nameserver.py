from pathlib import Path

import dns.zone
import pytest

from test.lab import LabError, nameserver
from test.lab.layout import SIGNED_ZONE, Layout


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "build" / "lab").mkdir(parents=True)
    return Layout("", tmp_path, tmp_path)


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(layout):
    nameserver.make_secret(layout)
    first = layout.tsig_secret.read_text()
    nameserver.make_secret(layout)
    assert layout.tsig_secret.read_text() == first
    assert layout.tsig_secret.stat().st_mode & 0o777 == 0o600


def test_the_servers_zone_files_are_those_its_configuration_names(layout):
    nameserver.make_secret(layout)
    files = nameserver.server_files(layout)
    config = files.pop("etc/knot/knot.conf")
    for zone in layout.zones:
        assert f"  - domain: {zone}\n" in config
        text = files.pop(f"var/lib/knot/{zone.removesuffix('.')}.zone")
        parsed = dns.zone.from_text(text, origin=zone, relativize=False)
        assert parsed.get_soa().minimum == 0
    assert files == {}


def test_resolvers_ask_the_name_server_for_everything(layout):
    config = nameserver.resolver_config(layout)
    names = {line.split('"')[1] for line in config.splitlines() if line.strip().startswith("name:")}
    assert names == {*layout.zones, "."}
    assert config.count("-addr: 198.18.0.2\n") == len(names)
    for zone in layout.zones:
        # The signed one stays without: a trust anchor is to count.
        assert (f'domain-insecure: "{zone}"' in config) is (zone != SIGNED_ZONE)


def test_a_name_outside_the_zones_is_refused_before_anything_is_sent(layout):
    with pytest.raises(LabError, match=r"in none of the lab's zones: signed\.test\., test\."):
        nameserver.publish(layout, "www.example.org", "A", ["198.18.0.11"])


def test_a_malformed_record_is_refused_before_anything_is_sent(layout):
    nameserver.make_secret(layout)
    with pytest.raises(LabError, match=r"no update of x\.test A"):
        nameserver.publish(layout, "x.test", "A", ["300.0.0.1"])


def test_layouts_do_not_share_a_secret(layout):
    other = Layout("b", layout.checkout, layout.cache)
    other.state.mkdir()
    nameserver.make_secret(layout)
    nameserver.make_secret(other)
    assert Path(layout.tsig_secret).read_text() != Path(other.tsig_secret).read_text()
