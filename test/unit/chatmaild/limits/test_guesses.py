"""Guesses are limited, owners are not; the clock is the test's own."""

import asyncio
import pickle
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmaild.limits import guesses
from chatmaild.limits.guesses import ADDRESS_BURST, ADDRESSES_PER_HOUR, NETWORK_BURST, GuessLimiter, RefusalLog
from chatmaild.limits.rate_limit import place_of
from test.support.clock import Clock

USER = "user12345@chat.example.org"
HOUR = 3600


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return GuessLimiter(clock)


def guess(limiter, client, address=USER) -> bool:
    """One try with a wrong password; whether it was looked at."""
    place = place_of(client)
    if limiter.refusal(address, place):
        return False
    limiter.failed(address, place)
    return True


def test_one_network_has_few_guesses(limiter, clock):
    assert sum(guess(limiter, f"192.0.2.{number}") for number in range(100)) == NETWORK_BURST
    assert limiter.refusal(USER, place_of("192.0.2.1")) == "for one address from one network"
    clock.now += HOUR
    assert sum(guess(limiter, "192.0.2.1") for _ in range(100)) == 6


@pytest.mark.parametrize("clients", [["192.0.2.1", "::ffff:192.0.2.2"], ["2001:db8::1", "2001:db8:0:1::1"]])
def test_neighbours_are_one_network(limiter, clients):
    assert sum(guess(limiter, clients[number % 2]) for number in range(100)) == NETWORK_BURST


def test_many_networks_have_few_guesses_together(limiter, clock):
    def attack() -> int:
        return sum(guess(limiter, f"198.{number % 200}.1.1") for number in range(4000))

    assert attack() == ADDRESS_BURST
    clock.now += HOUR
    assert attack() == 30


def test_one_network_does_not_use_up_what_all_have(limiter, clock):
    for _ in range(24 * 60):
        guess(limiter, "192.0.2.1")
        clock.now += 60
    assert guess(limiter, "198.51.100.1")


def test_one_place_tries_few_addresses(limiter, clock):
    tries = [guess(limiter, "192.0.2.1", f"user{number:05}@x") for number in range(200)]
    assert sum(tries) == ADDRESSES_PER_HOUR
    assert limiter.refusal("another@x", place_of("192.0.2.1")) == "for many addresses from one place"
    assert guess(limiter, "198.51.100.1", "another@x")
    clock.now += HOUR
    assert guess(limiter, "192.0.2.1", "another@x")


def test_one_device_with_an_old_password_does_not_stop_its_neighbours(limiter, clock):
    for _ in range(1000):
        guess(limiter, "192.0.2.1")
        clock.now += 60
    assert limiter.refusal("another@x", place_of("192.0.2.1")) is None


def test_where_somebody_has_logged_in_before_is_known_whatever_strangers_do(limiter):
    owner = place_of("192.0.2.77")
    assert not limiter.knows(USER, owner)
    limiter.succeeded(USER, owner)
    for number in range(4000):
        guess(limiter, f"192.0.2.{number % 250}")
        guess(limiter, f"198.{number % 200}.1.1")
    assert limiter.knows(USER, owner)
    assert limiter.knows(USER, place_of("::ffff:192.0.2.77"))
    assert not limiter.knows(USER, place_of("192.0.2.78"))
    assert not limiter.knows("another@x", owner)


@given(st.lists(st.tuples(st.ip_addresses(), st.integers(0, 30), st.booleans()), max_size=200))
def test_memory_is_bounded_whoever_comes(tries):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guesses, "COUNTED_MAX", 5)
        patch.setattr(guesses, "KNOWN_MAX", 5)
        limiter = GuessLimiter()
        for client, number, right in tries:
            if place := place_of(str(client)):
                (limiter.succeeded if right else limiter.failed)(f"user{number}@x", place)
            assert len(limiter) <= 15


def test_nothing_that_is_kept_tells_an_address_or_a_place(limiter):
    guess(limiter, "192.0.2.1")
    limiter.succeeded(USER, place_of("192.0.2.1"))
    kept = pickle.dumps(limiter)
    assert len(limiter) == 3
    packed = socket.inet_aton("192.0.2.1")
    for clear in (USER.encode(), b"192.0.2", packed, packed[::-1]):
        assert clear not in kept


def test_refusals_are_logged_together_and_without_who_it_was(caplog, monkeypatch):
    monkeypatch.setattr(guesses, "REPORT_S", 0.01)

    async def refuse():
        log = RefusalLog()
        for _ in range(3):
            log.count("for one address from one network")
        log.count("for many addresses from one place")
        while not caplog.messages:
            await asyncio.sleep(0.01)
        log.report()

    asyncio.run(refuse())
    assert caplog.messages == [
        "passwords not looked at: 4 (3 for one address from one network, 1 for many addresses from one place)"
    ]
