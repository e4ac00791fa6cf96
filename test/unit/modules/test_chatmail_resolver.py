"""Another name server takes the place of those that do not answer, and nothing is worse than before if it does not."""

import socket

import pytest

from _modules import chatmail_resolver
from test.support.dns_servers import NameServer

NAMES = ["www.example.org.", "debian.org."]


@pytest.fixture
def resolv_conf(tmp_path, monkeypatch):
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(chatmail_resolver, "RESOLV_CONF", path)
    return path


@pytest.fixture
def answers(monkeypatch):
    """What the C library says for each name: an error's number, or 0."""

    def answer(*errors):
        left = dict(zip(NAMES, errors, strict=True))

        def getaddrinfo(name, port):
            if left[name]:
                raise socket.gaierror(left[name], "")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


@pytest.mark.parametrize(
    "errors, works",
    [
        ((0, socket.EAI_AGAIN), True),
        ((socket.EAI_NONAME, socket.EAI_AGAIN), True),
        ((socket.EAI_AGAIN, socket.EAI_NODATA), True),
        ((socket.EAI_AGAIN, socket.EAI_FAIL), False),
    ],
)
def test_an_answer_is_also_that_there_is_no_such_name(answers, errors, works):
    answers(*errors)
    assert chatmail_resolver.works(NAMES) is works


@pytest.mark.parametrize(
    "text, named",
    [
        ("nameserver 9.9.9.9\n", True),
        ("search x\nnameserver\t9.9.9.9", True),
        # As lines that were joined.
        ("nameserver 192.0.2.1nameserver 9.9.9.9\n", False),
        ("# nameserver 9.9.9.9\n", False),
        ("", False),
        (None, False),
    ],
)
def test_a_name_server_is_found_in_the_file(resolv_conf, text, named):
    if text is not None:
        resolv_conf.write_text(text)
    assert chatmail_resolver.named("9.9.9.9") is named


@pytest.fixture(params=["file", "link", "dangling link", "nothing"])
def before(request, resolv_conf, tmp_path):
    """What the host has; call it to see whether it still has it."""
    target = tmp_path / "stub-resolv.conf"
    if request.param == "file":
        resolv_conf.write_text("nameserver 192.0.2.1")
        return lambda: resolv_conf.read_text() == "nameserver 192.0.2.1" and not resolv_conf.is_symlink()
    if "link" in request.param:
        resolv_conf.symlink_to(target.name)
        if request.param == "link":
            target.write_text("nameserver 127.0.0.53\n")
        return lambda: str(resolv_conf.readlink()) == target.name
    return lambda: not resolv_conf.exists()


def test_a_fallback_that_answers_takes_the_place_of_the_others(resolv_conf, before, answers, tmp_path):
    answers(0, 0)
    assert chatmail_resolver.fall_back("9.9.9.9", NAMES) is True
    assert not resolv_conf.is_symlink()
    assert "\nnameserver 9.9.9.9\n" in resolv_conf.read_text()
    assert {path.name for path in tmp_path.iterdir()} <= {"resolv.conf", "stub-resolv.conf"}


def test_a_fallback_that_does_not_answer_leaves_all_as_it_was(before, answers):
    answers(socket.EAI_AGAIN, socket.EAI_AGAIN)
    assert chatmail_resolver.fall_back("9.9.9.9", NAMES) is False
    assert before()


@pytest.mark.parametrize("fault, serves", [("", True), ("SERVFAIL", False), ("once silent", True)])
def test_a_name_server_is_asked_until_it_answers(monkeypatch, fault, serves):
    import dns.query

    server = NameServer("127.0.0.1", 0, {"example.org.": "@ A 192.0.2.1\n"}, fault)
    asking = dns.query.udp_with_fallback
    monkeypatch.setattr(chatmail_resolver, "LOOKUP_S", 0.2)
    monkeypatch.setattr(dns.query, "udp_with_fallback", lambda *query, **more: asking(*query, port=server.port, **more))
    try:
        assert chatmail_resolver.serves("127.0.0.1", ["example.org."]) is serves
        assert chatmail_resolver.serves("127.0.0.1", ["www.other.example.", "nowhere.example.org."]) is serves
    finally:
        server.close()
