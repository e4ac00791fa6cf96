"""Invites: made, listed, withdrawn, and never good for more than they say."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatmaild.invites import DAY, TOKEN, Invites

MODULE = "chatmaild.invites"


@pytest.fixture
def invites(tmp_path):
    return Invites(tmp_path / "invites")


def test_a_new_invite_is_found_by_the_password_that_begins_with_it(invites):
    invite = invites.make(uses=2, days=7)
    assert re.fullmatch(TOKEN, invite.token)
    assert invites.find(invite.token + "secret") == invite
    assert invites.valid() == [invite]
    assert abs(invite.expires - time.time() - 7 * DAY) < 60


@pytest.mark.parametrize("password", ["", "short", "abcdefgh0123secret", "../../../etcx", "ABCDEFGH0123", "\0" * 20])
def test_what_is_no_invite_is_not_found(invites, password):
    invites.make(uses=1, days=1)
    assert invites.find(password) is None


def test_uses_are_counted(invites):
    token = invites.make(uses=2, days=1).token
    assert invites.use(token)
    assert invites.find(token).uses_left == 1
    assert invites.use(token)
    assert invites.find(token) is None
    assert not invites.use(token)
    assert invites.valid() == []


def test_uses_at_the_same_time_are_each_counted(invites):
    token = invites.make(uses=10, days=1).token
    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(lambda _number: invites.use(token), range(40))) == 10


def test_an_invite_ends(invites, monkeypatch):
    token = invites.make(uses=1, days=1).token
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY + 1)
    assert invites.find(token) is None
    assert not invites.use(token)
    assert invites.valid() == []


def test_a_withdrawn_invite_is_gone(invites):
    token = invites.make(uses=5, days=1).token
    assert invites.revoke(token)
    assert invites.find(token) is None
    assert not invites.revoke(token)
    assert not invites.revoke("../password")


def test_a_damaged_invite_is_good_for_nothing(invites, tmp_path):
    token = invites.make(uses=5, days=1).token
    for text in ("", "{", "[]", '{"uses_left": "x", "expires": 1}'):
        (tmp_path / "invites" / token).write_text(text)
        assert invites.find(token) is None
    assert invites.valid() == []


def test_the_command_line(run_service, tmp_path):
    def run(*arguments: str):
        result = run_service(MODULE, "--directory", str(tmp_path / "invites"), *arguments)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    invite = run("make", "--uses", "3", "--days", "2")
    assert invite["uses_left"] == 3
    assert run("list") == [invite]
    assert run("revoke", invite["token"]) is True
    assert run("revoke", invite["token"]) is False
    assert run("list") == []


@pytest.mark.parametrize("option", ["--uses=0", "--days=x", "--days=9999999", "--uses=-1"])
def test_a_wrong_number_is_named(run_service, option):
    result = run_service(MODULE, "make", option)
    assert result.returncode == 2
    assert "allowed is a whole number from 1 to" in result.stderr
