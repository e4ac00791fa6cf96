"""The moments of the delivery figures."""

from test.relay.delivery import MOMENTS_S


def test_moments_are_14_from_100_ms_to_2_s():
    assert len(MOMENTS_S) == 14
    assert (MOMENTS_S[0], MOMENTS_S[-1]) == (0.1, 2.0)
