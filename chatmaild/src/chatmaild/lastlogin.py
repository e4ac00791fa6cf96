"""Remembers the day on which each address was last logged in to, as told by Dovecot's plugin last_login."""

import logging

from .config import Config, bot_password
from .dovecot import dict_server
from .dovecot.dict_server import DictError, Dictionary

PREFIX = "shared/last-login/"
TIMESTAMP_DIGITS = 11  # Unix seconds beyond any clock, yet within what file systems store

logger = logging.getLogger(__name__)


class LastLogins(Dictionary):
    """The days of the last logins."""

    def __init__(self, config: Config) -> None:
        self.config = config

    async def set(self, key: str, value: str, user: str) -> None:
        """Remember a login.

        :param key: ``shared/last-login/ADDRESS``
        :param value: when it was, in Unix seconds.
        :raises DictError: key or value have another form.
        """
        address = key.removeprefix(PREFIX)
        if address == key:
            raise DictError(f"the only known keys are {PREFIX}ADDRESS")
        if not (value.isascii() and value.isdigit() and len(value) <= TIMESTAMP_DIGITS):
            raise DictError("the value is no time in Unix seconds")
        try:
            mailbox = self.config.mailbox(address)
        except ValueError as error:
            raise DictError(str(error)) from error
        if bot_password(address):
            return  # it never counts as inactive
        try:
            mailbox.set_last_login(int(value))
        except FileNotFoundError:
            # An address that was deleted while its user was logging in: Dovecot need not hear of it.
            logger.error("cannot remember a login: %s does not exist", mailbox.password_path)


def main() -> None:
    """Run the service; see `dict_server.run`."""
    dict_server.run("Remember the day of each address' last login, which Dovecot reports.", Config, LastLogins)


if __name__ == "__main__":
    main()
