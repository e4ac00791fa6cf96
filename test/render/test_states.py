"""The states of every component fit together, for each kind of relay."""

import re

import pytest

from test.lab import images
from test.render.conftest import COMPONENTS, PILLARS
from test.salt.minion import CHECKOUT

REQUISITES = {"require", "watch", "onchanges", "onfail", "prereq", "listen", "use", "require_any", "watch_any"}

# Applied to other hosts, by themselves.
NOT_OF_A_RELAY = {"proxy"}

# What salt-ssh or we (_wrapper) wrap runs on the controller; anything else in an SLS is a round trip to the host of
# about a second.
WRAPPED = {
    "pillar",
    "config",
    "slsutil",
    "defaults",
    "log",
    "cp",
    "chatmail_controller",
    "chatmail_settings",
} | {f"grains.{function}" for function in ("get", "item", "items", "has_value", "filter_by")}


@pytest.fixture(scope="module", params=[*sorted(PILLARS), *NOT_OF_A_RELAY])
def low(request, renderer):
    if request.param in NOT_OF_A_RELAY:
        pillar = {"mail_domain": "chat.example.org", "proxy_target": ["192.0.2.7", "2001:db8::7"]}
        return renderer.low(pillar, f"chatmail.{request.param}")
    return renderer.low(renderer.pillar(PILLARS[request.param]))


def test_settings_are_validated_first_and_found_valid(low):
    first, second = low[:2]
    assert first["__id__"] == "settings-valid"
    assert second["__id__"].endswith("preflight")
    assert first["failhard"] is second["failhard"] is True
    assert first["problems"] == []


def test_before_the_host_is_adopted_nothing_on_it_is_changed(low):
    states = [chunk["state"] for chunk in low]
    # A proxy replaces nobody's configuration.
    last = "proxy-preflight" if low[-1]["__sls__"] == "chatmail.proxy" else "preflight-adopted"
    adopted = [chunk["__id__"] for chunk in low].index(last)
    # `test` only fails, where something is not possible yet.
    assert set(states[:adopted]) <= {"chatmail_settings", "chatmail_preflight", "test"}


def test_every_state_function_exists_with_the_arguments_it_is_given(low, renderer):
    for chunk in low:
        assert f"{chunk['state']}.{chunk['fun']}" in renderer.states, chunk["__id__"]


def test_every_source_exists(low):
    for chunk in low:
        for source in re.findall(r"salt://([^'\", ]+)", str(chunk)):
            assert (CHECKOUT / "etc/roots" / source).exists(), f"{chunk['__id__']}: {source}"


def test_every_requisite_names_a_state_that_is_there(low):
    known = {(chunk["state"], chunk[key]) for chunk in low for key in ("__id__", "name")}
    known |= {("sls", chunk["__sls__"]) for chunk in low}
    names = {name for _, name in known}
    for chunk in low:
        for kind in REQUISITES & chunk.keys():
            for requisite in chunk[kind]:
                there = set(requisite.items()) <= known if isinstance(requisite, dict) else requisite in names
                assert there, f"{chunk['__id__']}: {kind}: {requisite}"


def test_files_and_directories_say_whose_they_are_and_quote_their_mode(low):
    for chunk in low:
        if (chunk["state"], chunk["fun"]) in {("file", "managed"), ("file", "directory")}:
            mode = chunk.get("mode") or chunk.get("dir_mode")
            assert {"user", "group"} <= chunk.keys(), chunk["__id__"]
            assert isinstance(mode, str), chunk["__id__"]
            assert re.fullmatch(r"0[0-7]{3,4}", mode), chunk["__id__"]


def test_an_identifier_begins_with_its_component(low):
    for chunk in low:
        component = chunk["__sls__"].split(".")[1]
        assert component == "preflight" or chunk["__id__"].startswith(f"{component}-"), chunk["__id__"]


def test_templates_get_what_they_read_because_all_settings_are_three_kilobytes_for_each(low):
    given = {chunk["name"]: len(chunk["context"].get("settings", ())) for chunk in low if "context" in chunk}
    assert max(given.values()) <= 16, given


def test_every_template_renders_with_the_context_it_is_given(low, renderer):
    for chunk in low:
        if chunk.get("template") == "jinja" and isinstance(chunk.get("source"), str):
            path = CHECKOUT / "etc/roots" / chunk["source"].removeprefix("salt://")
            text = renderer.template(path.read_text(), **chunk.get("defaults", {}), **chunk.get("context", {}))
            for name in ("None", "True", "False"):
                assert not re.search(rf"(?m)^[^#]*[=:] *{name}\b", text), f"{chunk['__id__']}: {name}"


def test_every_configuration_file_says_that_it_is_managed(low):
    for chunk in low:
        if (chunk["state"], chunk["fun"]) == ("file", "managed") and isinstance(chunk.get("source"), str):
            path = CHECKOUT / "etc/roots" / chunk["source"].removeprefix("salt://")
            # Programs outside of /etc are no configuration, and OpenDKIM's tables hold nothing but data.
            if chunk["name"].startswith("/etc/") and not chunk["name"].startswith("/etc/dkimkeys/"):
                head = path.read_text().splitlines()[:2]  # the first may name an interpreter
                assert any("Managed by chatmail-formula" in line for line in head), chunk["__id__"]


@pytest.mark.parametrize("component", [name for name in COMPONENTS if name not in NOT_OF_A_RELAY])
def test_a_component_alone_is_preceded_by_the_preflight(component, renderer):
    low = renderer.low({"mail_domain": "_one.test"}, f"chatmail.{component}")
    assert [chunk["__id__"] for chunk in low[:2]] == ["settings-valid", "preflight"]
    assert any(chunk["__sls__"].startswith(f"chatmail.{component}") for chunk in low)


@pytest.mark.parametrize(
    "pillar",
    [
        None,
        {},
        "chat.example.org",
        ["chat.example.org"],
        5,
        {"mail_domain": None},
        {"mail_domain": ""},
        {"mail_domain": 10.0},
        {"mail_domain": {"chat": ["example", 1]}},
        {"mail_domain": "[1.3.3.7"},
        {"mail_domain": "a: b\n- c '\" {{ 1 / 0 }} {% x"},
        {"mail_domain": "_one.test", 1: 2, None: 3, "takeover": {1: 2, "a": 3}},
        {"mail_domain": "_one.test", "max_mailbox_size": "lots"},
        {"mail_domain": "_one.test", "max_message_size": "30 M", "max_load_1m": []},
        {"mail_domain": "_one.test", "tls_external_cert_and_key": "/etc/ssl/only-one.pem"},
        {"mail_domain": "_one.test", "tls_external_cert_and_key": 5, "mailboxes_dir": ["/srv/mail"]},
        {"mail_domain": "_one.test", "passthrough_senders": {"a": 1}, "passthrough_recipients": 7},
        {"mail_domain": "_one.test", "postfix_reinject_port": 10080},
        {"mail_domain": "_one.test", "postfix_reinject_port": "1: {", "filtermail_smtp_port": []},
    ],
)
def test_wrong_settings_render_and_are_found_by_the_first_state(pillar, renderer):
    assert renderer.low(pillar)[0]["problems"]


def test_the_lab_has_the_packages_of_a_relay_with_default_settings(renderer):
    low = renderer.low({"mail_domain": "_chat.example.org"})
    wanted = [chunk["pkgs"] for chunk in low if (chunk["state"], chunk["fun"]) == ("chatmail_package", "installed")]
    assert set(images.relay_packages()) == set().union(*wanted)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "chatmail").rglob("*.sls")), ids=lambda path: path.parent.name)
def test_nothing_runs_on_the_host_while_states_render(path):
    called = re.findall(r"\bsalt(?:\[['\"]|\.)([\w.]+)", re.sub(r"{#.*?#}|salt://", "", path.read_text(), flags=re.S))
    assert [name for name in called if name not in WRAPPED and name.split(".")[0] not in WRAPPED] == []
