"""Each service gets what it reads and nothing else, starts with whatever the schema accepts, restarts for it alone."""

import importlib
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chatmail_schema
from chatmaild import config, doveauth, expire, lastlogin, newemail
from chatmaild.config import read_config
from chatmaild.push.client import PushClient
from test.render.conftest import PILLARS
from test.salt.minion import CHECKOUT
from test.support.service_settings import SCHEMA

SOURCE = CHECKOUT / "chatmaild/src"
BASE = {
    "mail_domain": "chat.example.org",
    "echobot": True,
    "operator_bot": True,
    "mtail_address": "127.0.0.1",
    "backup_repository": "/srv/backup/relay",
}


@pytest.fixture(scope="module")
def files(renderer) -> dict[str, tuple[str, str]]:
    """For each service its settings file's template, and the class that reads it as ``MODULE:CLASS``."""
    found = {}
    for chunk in renderer.low(BASE):
        match = re.fullmatch(r"/etc/chatmail/([\w-]+)\.toml", str(chunk.get("name")))
        if match and chunk["fun"] == "managed":
            template = (CHECKOUT / "etc/roots" / chunk["source"].removeprefix("salt://")).read_text()
            found[match[1]] = (template, chunk["check_cmd"].split()[-1])
    assert len(found) >= 11
    return found


def kind_of(name: str) -> type:
    module, _, name = name.partition(":")
    return getattr(importlib.import_module(module), name)


def write(renderer, template: str, pillar: dict, path: Path) -> Path:
    path.write_text(renderer.template(template, settings=chatmail_schema.effective(SCHEMA, pillar)))
    return path


@pytest.mark.parametrize("pillar", sorted(PILLARS))
def test_a_file_has_the_keys_that_its_service_reads(renderer, files, pillar, tmp_path):
    values = renderer.pillar(PILLARS[pillar])
    for name, (template, kind) in files.items():
        text = write(renderer, template, values, tmp_path / name).read_text()
        keys = re.findall(r"(?m)^(\w+) = ", text)
        known = {field.name: field.default for field in fields(kind_of(kind))}
        assert sorted(set(keys)) == sorted(keys), name
        assert set(keys) <= set(known), name
        assert {key for key, default in known.items() if default is MISSING} <= set(keys), name


def test_a_template_is_given_the_settings_that_it_names_and_no_others(renderer):
    for chunk in renderer.low(BASE):
        if chunk["fun"] == "managed" and re.fullmatch(r"/etc/chatmail/[\w-]+\.toml", chunk["name"]):
            template = (CHECKOUT / "etc/roots" / chunk["source"].removeprefix("salt://")).read_text()
            assert set(chunk["context"]["settings"]) == set(re.findall(r"settings\.(\w+)", template)), chunk["name"]


def test_every_key_of_a_file_is_used_by_the_source(files):
    source = "".join(path.read_text() for path in (SOURCE / "chatmaild").rglob("*.py"))
    for _, kind in files.values():
        for field in fields(kind_of(kind)):
            assert re.search(rf"onfig\.{field.name}\b|\"{field.name}\"", source), f"{kind}: {field.name}"


# Beside what is allowed, what is not: the schema decides which is which.
HOSTS = st.sampled_from(["127.0.0.1", "127.0.0.2", "::1", "192.0.2.7", "0.0.0.0", "localhost", "10.0.0.1"])
VALUES = {
    "boolean": st.sampled_from([True, False, "true", "False", "yes"]),
    "size": st.integers(0, 3000) | st.sampled_from(["1M", "2g", " 5GB ", "1048576M", "999999999G", "lots"]),
    "number": st.floats(0, 2e6) | st.integers(-1, 10**7),
    "port": st.integers(1000, 66000) | st.sampled_from([3903, 8443, 10025, 10080, 10465]),
    "url": st.sampled_from(
        ["", "https://push.example.org/notify", "https://[2001:db8::1]:8443/?x=%41", "https://a:0", "http://a.org"]
    )
    | st.from_regex(r"https://[a-z0-9.:\[\]_/?@-]{1,20}", fullmatch=True),
    "path": st.sampled_from(["/srv/mail", "/srv/a@[1.3.3.7]", "/x", "/srv/ma il", "/home/vmail/pass.db"]),
    "addresses": st.lists(st.sampled_from(["a@b.org", "@c.org", 'x"y@b.org', "a`{|}@[1.2.3.4]", "nobody"]), max_size=3),
    "ip": HOSTS,
    "ips": st.lists(HOSTS, max_size=2),
    "domain": st.sampled_from(["chat.example.org", "_a.test", "192.0.2.7", "[192.0.2.7]", "A.Example.ORG", "a", "1"]),
}


def value_of(spec: dict) -> st.SearchStrategy:
    if spec["type"] == "integer":
        low, high = spec.get("minimum", 0), spec.get("maximum", 2**40)
        return st.integers(low - 1, high + 1) | st.sampled_from([low, high, 10**6, 1_500_000_000])
    return VALUES[spec["type"]]


READ = {key: value_of(spec) for key, spec in SCHEMA.items() if spec["type"] in {*VALUES, "integer"}}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(st.data())
def test_whatever_the_schema_accepts_the_services_start_with(renderer, files, tmp_path, data):
    pillar = {"mail_domain": data.draw(READ["mail_domain"])}
    for key in data.draw(st.lists(st.sampled_from(sorted(READ)), max_size=12, unique=True)):
        value = data.draw(READ[key])
        # Most pillars would be refused for one of their values.
        if not chatmail_schema.problems(SCHEMA, pillar | {key: value}):
            pillar[key] = value
    if chatmail_schema.problems(SCHEMA, pillar):
        return
    read = {
        name: read_config(write(renderer, template, pillar, tmp_path / name), kind_of(kind))
        for name, (template, kind) in files.items()
    }
    doveauth.AddressBook(read["doveauth"])
    lastlogin.LastLogins(read["lastlogin"])
    expire.Expiry(read["expire"], 0, remove=False, verbose=False)
    assert newemail.new_credentials(read["newemail"])["email"].endswith(f"@{read['doveauth'].mail_domain}")
    if read["metadata"].notification_url:
        PushClient(read["metadata"].notification_url)


@pytest.mark.parametrize("bound", ["minimum", "maximum"])
def test_the_check_of_an_apply_accepts_the_bounds(renderer, files, tmp_path, monkeypatch, bound):
    pillar = BASE | {key: spec[bound] for key, spec in SCHEMA.items() if bound in spec and spec["type"] != "size"}
    assert chatmail_schema.problems(SCHEMA, pillar) == []
    for name, (template, kind) in files.items():
        path = write(renderer, template, pillar, tmp_path / name)
        # The command line that an apply runs.
        monkeypatch.setattr(sys, "argv", ["chatmaild.config", kind, str(path)])
        config.main()


# For each setting the services that another value restarts, or has reload. All other settings restart nothing: those of
# the web pages, of what the clock starts, and of the apply itself.
RESTARTS = {
    "mail_domain": (
        "chatmail-metadata chatmail-newemail chatmail-transport coturn doveauth dovecot echobot filtermail "
        "filtermail-incoming lastlogin nginx opendkim operator-bot postfix@-"
    ),
    "max_user_send_per_minute": "filtermail",
    "max_user_send_burst_size": "filtermail",
    "max_mailbox_size": "dovecot",
    "max_message_size": (
        "chatmail-network-share chatmail-transport dovecot filtermail filtermail-incoming nginx postfix@-"
    ),
    "username_min_length": "doveauth",
    "username_max_length": "chatmail-newemail doveauth",
    "password_min_length": "chatmail-newemail doveauth",
    "max_load_1m": "doveauth",
    "min_available_memory": "doveauth",
    "min_free_disk_space": "doveauth",
    "max_creations_per_hour": "doveauth",
    "invite_only": "chatmail-newemail doveauth",
    "max_imap_connections": "dovecot nginx",
    "max_smtp_connections": "nginx postfix@-",
    "passthrough_senders": "filtermail",
    "passthrough_recipients": "filtermail",
    "operator_address": "filtermail filtermail-incoming",
    "tls_external_cert_and_key": "chatmail-newemail dovecot nginx postfix@-",
    "fallback_resolver": "postfix@-",
    "disable_ipv6": "coturn dovecot nginx postfix@- unbound",
    "public_addresses": "coturn",
    "privacy_mail": "dovecot",
    "iroh_relay": "chatmail-metadata nginx",
    "metrics_page": "nginx",
    "echobot": "doveauth filtermail",
    "operator_bot": "doveauth",
    "mtail_address": "dovecot mtail",
    "notification_url": "chatmail-metadata",
    "turn_min_port": "coturn",
    "turn_max_port": "coturn",
    "turn_socket_path": "chatmail-metadata",
    "imap_rawlog": "dovecot",
    "imap_compress": "dovecot",
    "tmpfs_index": "dovecot",
    "mailboxes_dir": "chatmail-metadata doveauth dovecot filtermail filtermail-incoming lastlogin",
    "filtermail_host": "filtermail filtermail-incoming nginx postfix@-",
    "filtermail_smtp_port": "postfix@-",
    "filtermail_smtp_port_incoming": "postfix@-",
    "filtermail_http_port_incoming": "nginx",
    "postfix_host": "filtermail filtermail-incoming",
    "postfix_reinject_port": "filtermail postfix@-",
    "postfix_reinject_port_incoming": "filtermail-incoming postfix@-",
}


def other_value(spec: dict, usual: object) -> object:
    """A value that is allowed, and is not the usual one."""
    fitting = {
        "boolean": not usual,
        "size": "300M",
        "number": 7,
        "integer": spec.get("minimum") if usual is None else usual - 1 if spec["type"] == "integer" else None,
        "port": 20099,
        "url": "https://other.example.org/x",
        "path": "/srv/other/place",
        "paths": "/etc/ssl/own.pem /etc/ssl/own.key",
        "addresses": ["someone@example.org"],
        "ip": "127.0.0.9",
        "ips": ["192.0.2.9"],
        "address": "someone@example.org",
        "contact": "someone@example.org",
        "text": "some words",
        "folder": "disabled",
        "domain": "old.example.org",
        "domains": ["mail.example.org"],
        "choice": spec.get("choices", [None])[-1],
        "source": "/root/program",
        "sha256": "0" * 64,
        "app_versions": [],
        "repository": "sftp:root@backup.example.org:/srv/relay",
    }
    return fitting[spec["type"]]


def test_a_setting_restarts_only_the_services_that_read_it(renderer):
    low = renderer.low(BASE)
    names = {}  # of the settings that a managed file's template names, by the state's ID
    for chunk in low:
        if chunk.get("template") == "jinja" and isinstance(chunk.get("source"), str):
            template = (CHECKOUT / "etc/roots" / chunk["source"].removeprefix("salt://")).read_text()
            names[chunk["__id__"]] = set(re.findall(r"\bsettings\.(\w+)", template))
    watched = {}
    for chunk in low:
        if chunk["fun"] == "running" and chunk["state"] == "chatmail_service":
            ids = {name for item in chunk.get("watch", []) if isinstance(item, dict) for name in item.values()}
            watched[chunk["name"]] = set().union(*(names.get(one, set()) for one in ids))
    usual = chatmail_schema.effective(SCHEMA, BASE)
    found = {}
    for key, spec in SCHEMA.items():
        changed = chatmail_schema.effective(SCHEMA, BASE | {key: other_value(spec, usual[key])})
        keys = {name for name in usual if changed[name] != usual[name]}
        assert key in keys
        if services := {service for service, read in watched.items() if read & keys}:
            found[key] = " ".join(sorted(services))
    assert found == RESTARTS
