"""Is what arrives of the author whom it names?

A domain says so by its signature (DKIM). A domain literal (RFC 5321 section 4.1.3) has no name to publish a key under;
for it the author's address is the client's, and all that it may send in the clear are bounces of what we have sent.
"""

from dataclasses import dataclass

from .. import ip_address
from ..message import dkim, mime
from ..message.address import is_literal, parse_from, same
from ..text_records import TextRecords

REPORT_PARTS_MAX = 4  # RFC 6522 section 3 has two or three


@dataclass(frozen=True)
class Authenticator:
    """Asks on behalf of the relay for `mail_domain`, which may be a literal itself."""

    mail_domain: str
    records: TextRecords

    async def check(self, message: mime.Entity, author: str, client: ip_address.Address | None, run: dkim.Run) -> None:
        """Return if `message` is of `author`.

        :param client: where it comes from; None if that is unknown.
        :param run: see `dkim.verify`.
        :raises dkim.NotVerified: it is not.
        :raises dkim.TryAgain: a later try may show that it is.
        """
        domain = author.rpartition("@")[2]
        if not is_literal(author):
            await dkim.verify(message, domain, self.records, run)
            return
        address = ip_address.of_literal(domain)
        if address is None:
            raise dkim.NotVerified("No DKIM signature found: the domain of From is no name and no IP address")
        # Whoever comes through a proxy may have our own address.
        if same(domain, self.mail_domain):
            raise dkim.NotVerified("The author is of this relay, whose users log in to send")
        if client is None:
            raise dkim.TryAgain("The address of the client is not known, try again later")
        if client != address:
            raise dkim.NotVerified("The domain of From is not the address of the client")

    async def check_returned(self, message: mime.Entity, recipients: list[str], run: dkim.Run) -> None:
        """Return if a bounce returns a message that its recipients have sent, by our signature in the returned header.

        :raises dkim.NotVerified: it does not.
        :raises dkim.TryAgain: a later try may show that it does.
        """
        returned = returned_header(message)
        authors = returned.values(b"from") if returned else []
        author = parse_from(authors[0]) if len(authors) == 1 else None
        if author is None or not all(same(author, to) for to in recipients):
            raise dkim.NotVerified("The bounce does not return a message of its recipient")
        # A relay without a name signs nothing.
        await dkim.verify(returned, self.mail_domain, self.records, run, whole=False)


def returned_header(report: mime.Entity) -> mime.Entity | None:
    """The header of the message that a report is about (RFC 3462, RFC 6522); None if it returns none.

    Only the header is read: a body may be gone, or large.
    """
    try:
        for part in report.parts(REPORT_PARTS_MAX, preamble=mime.any_text, epilogue=mime.any_text):
            if part.content_type() in ("message/rfc822", "text/rfc822-headers"):
                octets, start, end = part.body_span()
                return mime.parse(bytes(memoryview(octets)[start : min(end, start + mime.HEADERS_MAX)]))
    except mime.MalformedMessage:
        pass
    return None
