"""The one error of this package."""


class RelayError(Exception):
    """Something that should work does not. The message says what; ``next_step`` says what to do."""

    def __init__(self, message: str, next_step: str):
        super().__init__(message)
        self.next_step = next_step
