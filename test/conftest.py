"""For all tests."""

from hypothesis import settings
from salt._logging import shutdown_temp_handler

# How long an example takes is the machine's business: other work on it must not fail a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    # Importing salt (pytest-salt-factories does) installs a handler that keeps what is logged until the interpreter
    # ends, and then writes it to a stream that pytest has closed: a traceback behind pytest's closing line.
    shutdown_temp_handler()
