"""
The error of commands, whose text is for operators: Salt's own, and one like it where Salt is not.

After a ``salt-ssh`` there is no Salt on a relay, but the relay looks at itself each hour (``chatmail_host``).
"""

try:
    from salt.exceptions import CommandExecutionError
except ImportError:

    class CommandExecutionError(Exception):
        """What was asked for cannot be done; the text says why and what to do."""


__all__ = ["CommandExecutionError"]
