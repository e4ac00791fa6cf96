"""What status makes of facts: one fault is one finding, with what to do next; what stands on it is not tried."""

import threading

import pytest

from _modules import chatmail_relay
from _modules.chatmail_relay import MIB, Check, Finding
from chatmail_words import DAY_S

SETTINGS = {
    "mail_domain": "chat.test",
    "mail_domain_bare": "chat.test",
    "ipv4_relay": None,
    "tls_mode": "acme",
    "tls_cert_path": "/cert",
    "tls_key_path": "/key",
    "dns_check": True,
    "dns_update_server": None,
    "dns_update_key_file": None,
    "max_message_size": 30 * MIB,
    "max_load_1m": 5,
    "max_imap_connections": 10000,
    "max_smtp_connections": 1000,
    "mailboxes_dir": "/home/vmail/mail/chat.test",
    "invite_only": False,
    "run_iroh_relay": True,
    "echobot": False,
    "mtail_address": None,
    "metrics_page": False,
    "turn_min_port": 49152,
    "turn_max_port": 65535,
    "release": {"postfix_unit": "postfix@-"},
}


@pytest.fixture
def configure_loader_modules():
    return {chatmail_relay: {"__opts__": {"id": "relay"}, "__salt__": {}, "__context__": {}}}


def judged(name, facts, **settings):
    """The one finding that the judge ``name`` makes, or None."""
    found = getattr(chatmail_relay, f"_judge_{name}")(facts, SETTINGS | settings)[1]
    assert len(found) < 2
    return found[0] if found else None


# --- The order of checks ---


def check(name, *findings, facts=None, **more):
    return Check(name, lambda _settings: facts, lambda _facts, _settings: (f"{name} says", list(findings)), **more)


def survey(*checks):
    lines, found = chatmail_relay._survey(list(checks), SETTINGS)
    return {line["check"]: line["level"] for line in lines}, [one["what"] for one in found]


BAD = Finding("error", "bad", "mend it")


def test_a_check_whose_base_is_down_is_not_tried():
    levels, found = survey(check("disk", BAD), check("probe", Finding("error", "no", ""), needs=("disk",)))
    assert (levels, found) == ({"disk": "error", "probe": "skipped"}, ["bad"])


def test_a_warning_is_no_reason_to_skip():
    levels, _ = survey(check("disk", Finding("warning", "w", "")), check("probe", needs=("disk",)))
    assert levels == {"disk": "warning", "probe": "ok"}


def test_what_a_stopped_unit_has_to_do_is_not_looked_at():
    stopped = Finding("error", "x is stopped", "", "x.service")
    gone = Finding("error", "its socket is gone", "", "x.service")
    levels, found = survey(
        check("services", stopped), check("sockets", gone), check("probe", units=frozenset(["x.service"]))
    )
    assert (levels, found) == ({"services": "error", "sockets": "ok", "probe": "skipped"}, ["x is stopped"])


def test_consequences_are_not_told():
    first = check(
        "certificate", Finding("error", "it has ended", ""), explains=chatmail_relay.re.compile("(?i)certificate")
    )
    second = check("services", Finding("error", "nginx: bad Certificate", ""), Finding("error", "x is stopped", ""))
    assert survey(first, second)[1] == ["it has ended", "x is stopped"]


def test_a_check_that_fails_itself_is_a_finding():
    def collect(_settings):
        raise OSError(5, "Input/output error")

    levels, found = survey(Check("disk", collect, None))
    assert levels == {"disk": "error"}
    assert "Input/output error" in found[0]


def test_a_setting_that_is_newer_than_the_last_apply_is_a_finding():
    levels, found = survey(Check("services", lambda _s: None, lambda _f, settings: settings["tomorrow"]))
    assert levels == {"services": "error"}
    assert found == ["services cannot be looked at: 'tomorrow' is not there"]


def test_slow_checks_work_beside_the_others():
    met = threading.Barrier(2, timeout=20)
    levels, _ = survey(
        Check("one", lambda _s: met.wait(), lambda _f, _s: ("", []), slow=True),
        Check("two", lambda _s: met.wait(), lambda _f, _s: ("", []), slow=True),
    )
    assert levels == {"one": "ok", "two": "ok"}


def test_the_exit_code_goes_by_the_worst():
    codes = [chatmail_relay.exit_code(level) for level in ("ok", "note", "warning", "error")]
    assert codes == [0, 0, 1, 2]


def test_a_host_without_settings_is_no_relay(tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_relay, "RELAY", tmp_path / "relay.json")
    found = chatmail_relay.status()
    assert (found["level"], len(found["findings"])) == ("error", 1)
    assert found["findings"][0]["do"] == "salt-ssh relay state.apply chatmail"
    assert chatmail_relay.__context__["retcode"] == 2


# --- Judgements that the lab does not make ---


def file_system(**more):
    one = {"path": "/", "free": 10**10, "total": 10**11, "free_inodes": 10**6, "inodes": 10**7, "read_only": False}
    return {"file_systems": [one | more], "mailboxes": "/", "wanted": 1024 * MIB}


@pytest.mark.parametrize(
    ("facts", "level", "what"),
    [
        ({}, None, ""),
        ({"free": 44 * MIB}, "error", "the disk is full: / has 44.0 M free"),
        ({"free_inodes": 9}, "error", "room for 9 files"),
        ({"read_only": True}, "error", "read-only"),
        ({"free": 900 * MIB}, "warning", "no address is created below 1.0 G"),
        # btrfs counts no inodes.
        ({"free_inodes": 0, "inodes": 0}, None, ""),
    ],
)
def test_disks(facts, level, what):
    finding = judged("disk", file_system(**facts))
    assert (finding and finding.level) == level
    assert what in (finding.what if finding else "")


def test_a_clock_that_nobody_keeps_is_a_warning_but_for_containers():
    facts = {"ahead": 1, "synchronized": False, "container": False}
    assert judged("clock", facts).level == "warning"
    assert judged("clock", facts | {"container": True}) is None
    assert "5 min behind" in judged("clock", facts | {"ahead": -300}).what


def waiting(destination, reason="refused", deferred=1, since=0.0):
    return {"destination": destination, "messages": deferred, "deferred": deferred, "since": since, "reason": reason}


@pytest.mark.parametrize(
    ("lines", "level", "do"),
    [
        ([], None, ""),
        ([waiting("a.test", since=900.0)], None, ""),
        ([waiting("a.test", since=900.0, deferred=100)], "warning", "salt-ssh relay chatmail_queue.retry a.test"),
        ([waiting("a.test", since=-8000.0)], "warning", "salt-ssh relay chatmail_queue.drop a.test"),
        ([waiting("chat.test", since=900.0)], "error", "journalctl -u dovecot"),
        ([waiting(f"{n}.test", "connect: Connection timed out") for n in range(3)], "error", "port 25"),
    ],
)
def test_queues(lines, level, do):
    finding = judged("queue", {"lines": lines, "now": 1000.0})
    assert (finding and finding.level) == level
    assert do in (finding.do if finding else "")


def answer(**statuses):
    lines = {name: {"status": status, "remark": "no answer"} for name, status in statuses.items()}
    return {"required": lines, "recommended": {}}


def test_dns_records_are_entered_by_hand_or_published():
    finding = judged("names", answer(A="ok", MX="missing"))
    assert (finding.level, finding.do) == ("error", "enter what salt-ssh relay chatmail_dns.check shows")
    published = {"dns_update_server": "192.0.2.1", "dns_update_key_file": "/key"}
    assert judged("names", answer(MX="wrong"), **published).do == "salt-ssh relay chatmail_dns.publish"


def test_name_servers_that_are_away_are_one_fault():
    finding = judged("names", answer(A="unknown", MX="unknown", TXT="unknown"))
    assert "cannot be asked: no answer" in finding.what


@pytest.mark.parametrize(
    ("facts", "level", "what"),
    [
        ({"seconds": 0.1, "signed": True}, None, ""),
        ({"seconds": 3.0, "signed": True}, "warning", "took 3.0 s"),
        ({"seconds": 0.1, "signed": False}, "error", "was not signed"),
        ({"stage": "imap", "problem": "[AUTHENTICATIONFAILED]"}, "error", "cannot be read: [AUTHENTICATIONFAILED]"),
        ({"stage": "submission", "problem": "451 4.7.1"}, "error", "cannot be sent: 451 4.7.1"),
        ({"stage": "delivery", "problem": "no answer"}, "error", "did not arrive"),
    ],
)
def test_probes(facts, level, what):
    finding = judged("probe", facts)
    assert (finding and finding.level) == level
    assert what in (finding.what if finding else "")


def served(days, *places):
    places = [dict(zip(("port", "daemon"), place.split(), strict=True)) for place in places]
    return {"names": ["chat.test"], "issuer": "itself", "days_left": days, "places": places}


REFUSED = {"port": 443, "daemon": "nginx", "problem": "refused"}


@pytest.mark.parametrize(
    ("certificates", "level"),
    [
        ([served(71, "25 postfix", "993 dovecot")], None),
        ([], None),
        ([served(71, "25 postfix"), served(9, "993 dovecot")], "warning"),
        ([served(71, "25 postfix"), served(-1, "993 dovecot")], "error"),
    ],
)
def test_served_certificates(certificates, level):
    finding = judged("served", {"certificates": certificates, "not_served": [REFUSED]})
    assert (finding and finding.level) == level
    assert not finding or finding.do == "systemctl reload postfix dovecot nginx"


PACKAGES = {
    "versions": {"postfix": "3.7.11-0+deb12u1"},
    "upgrades": 0,
    "security": [],
    "lists_age": 0,
    "old": [],
    "reboot": False,
    "kernel_gone": False,
}


@pytest.mark.parametrize(
    ("facts", "level", "do"),
    [
        ({}, None, ""),
        ({"upgrades": 2}, "note", "apt upgrade"),
        ({"upgrades": 2, "security": ["openssl"]}, "warning", "apt upgrade"),
        ({"lists_age": 8 * DAY_S}, "note", "apt update"),
        ({"old": ["nginx.service"]}, "warning", "systemctl restart nginx"),
        ({"kernel_gone": True}, "warning", "systemctl reboot"),
    ],
)
def test_packages(facts, level, do):
    finding = judged("packages", PACKAGES | facts)
    assert (finding and finding.level) == level
    assert do in (finding.do if finding else "")


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"ago": 3600, "result": "success"}, None),
        ({"ago": None, "result": "success"}, "never removed"),
        ({"ago": 3600, "result": "exit-code"}, r"has failed \(exit-code\)"),
    ],
)
def test_expiry(facts, what):
    finding = judged("expiry", facts)
    assert what is None or chatmail_relay.re.search(what, finding.what)
    assert bool(finding) == bool(what)


def test_the_kernel_runs_out_of_inotify_instances():
    facts = {"imap": 900, "smtpd": 1, "inotify_used": 900, "inotify_limit": 1000}
    assert "900 of 1000 inotify instances are in use" in judged("clients", facts, max_imap_connections=5000).what


def test_limits_of_connections_are_told_before_they_are_reached():
    facts = {"imap": 10, "smtpd": 850, "inotify_used": 10, "inotify_limit": 65535}
    assert "max_smtp_connections" in judged("clients", facts).do


@pytest.mark.parametrize("unit", ["postfix@-", "postfix"])
def test_the_release_decides_which_unit_is_postfix(unit):
    settings = SETTINGS | {"release": {"postfix_unit": unit}}
    wanted = {one.name for one in chatmail_relay.UNITS if one.is_wanted(settings)}
    assert wanted & set(chatmail_relay.POSTFIX_UNITS) == {f"{unit}.service"}
    assert chatmail_relay._unit_of("postfix", settings) == f"{unit}.service"


def test_a_relay_without_mail_wants_neither_postfix_nor_dovecot():
    off = {unit.name for unit in chatmail_relay._units(SETTINGS | {"disable_mail": True})}
    assert off.isdisjoint(chatmail_relay.MAIL_UNITS)
    assert "nginx.service" in off


# --- Attacks ---


def attacks(held=None, connections=None, memory=0, passwords=0):
    refused = {"connections": connections or {}, "memory": memory, "passwords": passwords}
    return {"held": held or {}, "refused": refused}


def test_a_network_at_its_limit_is_named_with_the_command_that_blocks_it():
    finding = judged("attacks", attacks({25: {"192.0.2.0/24": 50}}, {25: {"192.0.2.0/24": 312}}))
    assert finding.level == "warning"
    assert "192.0.2.0/24 holds 50 connections to port 25; allowed are 50, and 312 more were refused" in finding.what
    assert "ip route add blackhole 192.0.2.0/24" in finding.do and "max_smtp_connections" in finding.do
    assert finding.data["held"] == 50 and finding.data["refused"] == 312


def test_many_networks_are_told_in_one_line():
    held = {25: {f"192.0.{number}.0/24": 50 for number in range(9)}}
    found = chatmail_relay._judge_attacks(attacks(held), SETTINGS)[1]
    assert len(found) == 4 and found[3].what.startswith("6 more networks")


def test_guesses_and_messages_without_memory_are_counted():
    assert judged("attacks", attacks(passwords=5000)).data == {"passwords": 5000}
    assert judged("attacks", attacks(memory=3)).data == {"messages": 3}
    assert judged("attacks", attacks({993: {"192.0.2.0/24": 900}}, passwords=20)) is None
