"""What got worse with relays or is well again, in lines."""

import chatmail_news as news

DOWN = {
    "check": "services",
    "kind": "stopped",
    "level": "error",
    "what": "nginx is stopped",
    "do": "start it",
    "unit": "nginx",
}


def status(*findings: dict) -> dict:
    return {"findings": list(findings)}


def test_a_fault_has_a_key_that_its_words_do_not_change():
    (key,) = news.faults(status(DOWN))
    assert list(news.faults(status(DOWN | {"what": "nginx is stopped since 2 h"}))) == [key]
    assert list(news.faults(status(DOWN | {"unit": "dovecot"}))) != [key]
    assert news.faults(status(DOWN | {"level": "note"})) == {}


def test_what_is_new_and_what_is_gone_are_lines_and_what_stays_is_none():
    known, wrong = {"a": "error: a", "b": "error: b"}, {"b": "error: b, for 2 h", "c": "warning: c"}
    assert news.changes(known, wrong) == ["warning: c", "well again: error: a"]
    assert news.changes(known, known) == []


def test_of_several_relays_each_line_names_its_own():
    before, now = {"one": {"a": "error: a"}}, {"one": {}, "two": {"a": "error: a"}}
    assert news.news(before, now) == ["one: well again: error: a", "two: error: a"]


def test_a_relay_that_cannot_be_asked_is_not_well_again():
    away = news.faults("ssh: no route\nto host")
    assert away == {news.AWAY: "it cannot be asked for its status: ssh: no route to host"}
    assert news.changes({"a": "error: a"}, away) == list(away.values())
    assert news.remembered({"one": {"a": "error: a"}}, {"one": away}) == {"one": {"a": "error: a", **away}}


def test_a_finding_is_one_line_of_limited_length():
    assert news.finding_text(DOWN) == "error: nginx is stopped. start it"
    assert len(news.finding_text(DOWN | {"what": "x" * 10_000})) == news.TEXT_LIMIT
