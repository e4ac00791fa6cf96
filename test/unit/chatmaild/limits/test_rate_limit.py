"""The limiter of senders, with a clock of the test's own."""

import pytest

from chatmaild.limits.rate_limit import RateLimiter
from test.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_passes_and_one_more_is_refused(clock):
    limiter = RateLimiter(60, 10, clock)
    assert [limiter.allow("a") for _ in range(11)] == [True] * 10 + [False]


def test_after_a_burst_one_passes_each_second(clock):
    limiter = RateLimiter(60, 10, clock)
    for _ in range(10):
        limiter.allow("a")
    for _ in range(100):
        clock.now += 1
        assert limiter.allow("a")
        assert not limiter.allow("a")


def test_ten_messages_a_second_are_stopped_at_the_twelfth(clock):
    limiter = RateLimiter(60, 10, clock)
    answers = []
    for _ in range(12):
        answers.append(limiter.allow("a"))
        clock.now += 0.1
    assert answers == [True] * 11 + [False]


def test_refused_messages_do_not_lengthen_the_wait(clock):
    limiter = RateLimiter(60, 1, clock)
    assert limiter.allow("a")
    for _ in range(1000):
        assert not limiter.allow("a")
    clock.now += 1
    assert limiter.allow("a")


def test_senders_do_not_share_a_limit(clock):
    limiter = RateLimiter(1, 1, clock)
    assert limiter.allow("a")
    assert limiter.allow("b")
    assert not limiter.allow("a")


def test_a_full_burst_is_there_again_after_a_pause(clock):
    limiter = RateLimiter(60, 10, clock)
    for _ in range(10):
        limiter.allow("a")
    clock.now += 10
    assert [limiter.allow("a") for _ in range(11)] == [True] * 10 + [False]


def test_senders_whose_time_has_come_are_forgotten(clock):
    limiter = RateLimiter(60, 10, clock)
    for number in range(10_000):
        limiter.allow(f"sender{number}")
    assert len(limiter) == 10_000
    clock.now += 10
    limiter.allow("another")
    assert len(limiter) == 1


def test_memory_is_bounded_by_the_senders_of_one_burst(clock):
    limiter = RateLimiter(60, 10, clock)
    most = 0
    for number in range(20_000):
        clock.now += 0.01
        limiter.allow(f"sender{number}")
        if number % 100 == 0:
            while limiter.allow("busy"):
                pass
        most = max(most, len(limiter))
    assert most <= 10 / 0.01 + 2
