"""TXT records of the DNS (RFC 1035 section 3.3.14), told by socketmap.

For the incoming filter chatmail-dane-policy looks: dnspython takes 4 MB of memory on Debian 12 and 6 on 13, which the
one has not left, and the other has it already.
"""

import base64
from dataclasses import dataclass

from . import socketmap

TABLE = "txt"
DAEMON = ("127.0.0.1", 8462)


class LookupFailed(Exception):
    """The DNS gave no answer; the text says which."""


def answer(records: list[bytes]) -> str:
    """What the socketmap server says of a name: each record in one piece, in base64.

    What fits a message of the DNS fits an answer of socketmap.
    """
    return f"OK {' '.join(base64.b64encode(record).decode() for record in records)}" if records else socketmap.NOT_FOUND


@dataclass(frozen=True)
class TextRecords:
    """Asks the daemon at `daemon`, which has `seconds` for each answer."""

    seconds: float
    daemon: tuple[str, int] = DAEMON

    async def look_up(self, name: str) -> list[bytes]:
        """The records of `name`, each in one piece, none if there are none; aliases are followed.

        :raises LookupFailed: there is no answer.
        """
        try:
            said = await socketmap.ask(*self.daemon, TABLE, name, self.seconds)
        except OSError as error:
            raise LookupFailed(
                f"TXT of {name}: the daemon at port {self.daemon[1]} does not answer: {str(error) or 'it is silent'}"
            ) from error
        if said == socketmap.NOT_FOUND:
            return []
        kind, _, text = said.partition(" ")
        if kind != "OK":
            raise LookupFailed(text)
        try:
            return [base64.b64decode(record, validate=True) for record in text.split(" ")]
        except ValueError as error:
            raise LookupFailed(f"TXT of {name}: an answer that is not in base64") from error
