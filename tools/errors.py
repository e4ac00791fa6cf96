"""What the tools raise for people to read."""


class ApplyError(Exception):
    """What was asked for could not begin; the message says what is wrong and what to do."""
