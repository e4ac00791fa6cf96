"""Signing mail as another domain does (RFC 6376), with dkimpy, a signer that is not ours."""

import base64
import contextlib
from types import SimpleNamespace

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class _Signer(dkim.DKIM):
    """dkimpy's signer, with ``fields``, pairs of tag and value, in the place of its own, and RFC 8463."""

    fields: tuple[tuple[bytes, bytes], ...] = ()
    ed25519: Ed25519PrivateKey | None = None

    def gen_header(self, fields, include_headers, canon_policy, header_name, pk):
        if self.ed25519:
            # RFC 8463; dkimpy itself would want one more library for it.
            self.signature_algorithm = b"ed25519-sha256"
            pk = SimpleNamespace(sign=lambda digest: SimpleNamespace(signature=self.ed25519.sign(digest)))
        kept = [field for field in fields if field[0] not in dict(self.fields)]
        # b= stays last.
        fields = [*kept[:-1], *self.fields, kept[-1]]
        return super().gen_header(fields, include_headers, canon_policy, header_name, pk)


class ForeignDomain:
    """A mail domain in the lab's DNS that signs with a key of its own."""

    def __init__(self, name: str, private_key: bytes) -> None:
        self.name = name
        self._private_key = private_key

    def record(self) -> str:
        """The key record (RFC 6376 section 3.6.1)."""
        public = serialization.load_pem_private_key(self._private_key, password=None).public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"

    def signed(
        self,
        message: bytes,
        *,
        domain: str | None = None,
        selector: str = "mail",
        header: str = "relaxed",
        body: str = "simple",
        length: bool = False,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        ed25519: Ed25519PrivateKey | None = None,
    ) -> bytes:
        """``message`` with a DKIM-Signature (RFC 6376) of the own key.

        Arguments: ``domain`` is d=, usually the own one; ``header`` and ``body`` are canonicalizations; ``length`` adds
        l= as long as the body; ``fields`` are further tags, or other values of tags, as (b"x", b"1"); ``ed25519`` signs
        in the place of the own key.
        """
        signer = _Signer(message)
        signer.fields = fields + (((b"a", b"ed25519-sha256"),) if ed25519 else ())
        signer.ed25519 = ed25519
        field = signer.sign(
            selector.encode(),
            (domain or self.name).encode(),
            self._private_key,
            canonicalize=(header.encode(), body.encode()),
            length=length,
        )
        return field + message


def verified_domains(message: bytes, domain: str, record: bytes) -> set[str]:
    """Of which domains dkimpy verifies a signature of ``message``, where ``domain`` alone has keys: ``record``."""

    def look_up(name: bytes, timeout: float = 5) -> bytes:
        return record if name.lower() == f"mail._domainkey.{domain}.".encode() else b""

    found = set()
    for index in range(message.lower().count(b"dkim-signature:")):
        verifier = dkim.DKIM(message)
        # It raises its own errors, and those of what it did not expect.
        with contextlib.suppress(dkim.DKIMException, ValueError, LookupError):
            if verifier.verify(index, dnsfunc=look_up):
                found.add(verifier.domain.decode().lower())
    return found
