import json
from pathlib import Path

import pytest
import yaml

from test.lab import LabError, saltconf
from test.lab.layout import CHECKOUT, Layout
from test.lab.nameserver import relay_settings

LAYOUT = Layout("", Path("/checkout"), Path("/cache"))
ARGS = ("test.ping",)


def test_the_lab_keeps_the_committed_settings_and_changes_the_paths():
    committed = (CHECKOUT / "etc" / "master").read_text()
    config = saltconf.master_config(LAYOUT, committed)
    for name, value in yaml.safe_load(committed).items():
        assert name in config
        if config[name] != value:
            assert "/checkout/" in json.dumps(config[name]) or config[name] == ["/checkout"]


def test_every_host_has_a_roster_entry_with_the_labs_key():
    entries = saltconf.roster(LAYOUT, {"_one.test": 11, "_two.test": 12})
    assert {name: entry["host"] for name, entry in entries.items()} == {
        "_one.test": "198.18.0.11",
        "_two.test": "198.18.0.12",
    }
    assert entries["_one.test"]["priv"] == "/checkout/build/lab/ssh/id_ed25519"


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "master").write_text("thin_exclude_saltexts: true\n")
    return Layout("", tmp_path, tmp_path)


def read_pillar(layout, number):
    return yaml.safe_load((layout.salt / "pillar" / f"host-{number}.sls").read_text())


def test_a_new_host_has_its_name_as_mail_domain(layout):
    saltconf.write_config(layout, {"_one.test": 11})
    first = {"mail_domain": "_one.test", "iroh_relay": ""}
    assert read_pillar(layout, 11) == {"chatmail": first | relay_settings(layout)}
    assert yaml.safe_load((layout.salt / "pillar" / "top.sls").read_text()) == {"base": {"_one.test": ["host-11"]}}


def test_a_pillar_once_set_outlasts_new_hosts(layout):
    saltconf.write_config(layout, {"_one.test": 11})
    own = {"mail_domain": "other.test", "dns_update_server": "192.0.2.53"}
    saltconf.write_pillar(layout, 11, {"chatmail": own})
    saltconf.write_config(layout, {"_one.test": 11, "_two.test": 12})
    assert read_pillar(layout, 11) == {"chatmail": relay_settings(layout) | own}


def test_the_result_of_the_host_is_returned():
    assert saltconf.parse_result("a.test", ARGS, 0, '{\n "a.test": true\n}', "") is True
    assert saltconf.parse_result("a.test", ARGS, 0, '{\n "a.test": false\n}', "") is False


def test_noise_before_the_answer_is_skipped():
    assert saltconf.parse_result("a.test", ARGS, 0, 'a warning\n{"a.test": 1}', "") == 1


@pytest.mark.parametrize("stdout", ["", "{}", '{"a.test": {}}', '{"a.test": null}', '{"b.test": true}'])
def test_an_empty_result_is_a_failure(stdout):
    with pytest.raises(LabError, match="returned nothing"):
        saltconf.parse_result("a.test", ARGS, 0, stdout, "")


def test_an_answer_that_is_no_json_is_a_failure():
    with pytest.raises(LabError, match="not JSON"):
        saltconf.parse_result("a.test", ARGS, 0, '{"a.test": Tr', "")


def test_failed_states_are_named_and_the_result_is_kept():
    states = {
        "file_|-x_|-/x_|-managed": {"__sls__": "s", "__id__": "x", "comment": "no room", "result": False},
        "file_|-y_|-/y_|-managed": {"__sls__": "s", "__id__": "y", "comment": "", "result": True},
    }
    with pytest.raises(saltconf.SaltFailed, match=r"(?s)code 20.*s: x: no room$") as caught:
        saltconf.parse_result("a.test", ("state.apply",), 20, json.dumps({"a.test": states}), "")
    assert caught.value.result == states
