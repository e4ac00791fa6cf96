"""For all tests."""

from salt._logging import shutdown_temp_handler


def pytest_configure() -> None:
    # Importing salt (pytest-salt-factories does) installs a handler that keeps what is logged until the interpreter
    # ends, and then writes it to a stream that pytest has closed: a traceback behind pytest's closing line.
    shutdown_temp_handler()
