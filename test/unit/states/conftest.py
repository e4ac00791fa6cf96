"""For all state tests."""

import pytest


@pytest.fixture(params=[False, True], ids=["apply", "test"])
def testmode(request):
    """Whether states run with ``test=True``; a test that uses this runs as an apply and in test mode."""
    return request.param
