"""The one error of the lab."""


class LabError(RuntimeError):
    """The lab can not do what was asked; the text says what failed, where, and what to do next."""
