"""Whether a domain stands behind a message: DKIM signatures (RFC 6376, with RFC 8301 and RFC 8463) are verified.

A domain signs some header fields and the body of what leaves it, in a field `DKIM-Signature`, and publishes the key in
the DNS. Who receives the message looks the key up. `verify` asks for one signature of one domain, the author's, over
the whole message; it returns if there is one, and raises in all other cases.

`tags` has the syntax that signatures and key records share, `signature` and `key` read them, `canonicalization` makes
the octets that are signed, and `verification` brings them together.
"""

from .verification import DNS_S, NotVerified, Run, TryAgain, verify

__all__ = ["DNS_S", "NotVerified", "Run", "TryAgain", "verify"]
