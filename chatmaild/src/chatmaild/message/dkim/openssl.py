"""Verifying signatures with OpenSSL's libcrypto, which Python's hashlib has loaded already.

Python's cryptography would do the same for 7 MB more, beyond the 30 MB that a daemon may have, and Python's own numbers
take 0.5 ms for a signature where OpenSSL takes 0.06 ms.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_void_p

_RSA, _ED25519 = 6, 1087  # openssl/obj_mac.h: NID_rsaEncryption, NID_ED25519

_crypto = ctypes.CDLL("libcrypto.so.3")


def _function(name: str, result, *arguments):
    function = _crypto[name]
    function.restype, function.argtypes = result, arguments
    return function


_d2i_public_key_info = _function("d2i_PUBKEY", c_void_p, c_void_p, POINTER(c_void_p), c_long)
_d2i_public_key = _function("d2i_PublicKey", c_void_p, c_int, c_void_p, POINTER(c_void_p), c_long)
_raw_public_key = _function("EVP_PKEY_new_raw_public_key", c_void_p, c_int, c_void_p, c_char_p, c_size_t)
_key_type = _function("EVP_PKEY_get_base_id", c_int, c_void_p)
_key_bits = _function("EVP_PKEY_get_bits", c_int, c_void_p)
_key_free = _function("EVP_PKEY_free", None, c_void_p)
_context_new = _function("EVP_MD_CTX_new", c_void_p)
_context_free = _function("EVP_MD_CTX_free", None, c_void_p)
_sha256 = _function("EVP_sha256", c_void_p)
_verify_init = _function("EVP_DigestVerifyInit", c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
_verify = _function("EVP_DigestVerify", c_int, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)
_clear_errors = _function("ERR_clear_error", None)


class UnusableKey(ValueError):
    """It is not an RSA key, or not of an allowed size."""


def verify_rsa(key: bytes, signature: bytes, data: bytes, bits: range) -> bool:
    """Whether RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.2) verifies.

    :param key: DER, a SubjectPublicKeyInfo (RFC 5280) or an RSAPublicKey (RFC 8017 appendix A.1.1).
    :param bits: allowed sizes of the key.
    :raises UnusableKey: the key is something else.
    """
    with _rsa_key(key) as handle:
        if not handle or _key_bits(handle) not in bits:
            raise UnusableKey
        return _verifies(handle, _sha256(), signature, data)


def verify_ed25519(key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether pure Ed25519 (RFC 8032 section 5.1.7) verifies.

    :param key: 32 octets.
    """
    with _owned(_raw_public_key(_ED25519, None, key, len(key))) as handle:
        return _verifies(handle, None, signature, data)


@contextlib.contextmanager
def _owned(handle: int | None) -> Iterator[int | None]:
    """A key until the end of the block; None if it could not be read."""
    try:
        yield handle
    finally:
        _key_free(handle)
        _clear_errors()


def _rsa_key(key: bytes) -> contextlib.AbstractContextManager[int | None]:
    for decode in (_d2i_public_key_info, lambda *arguments: _d2i_public_key(_RSA, *arguments)):
        buffer = ctypes.create_string_buffer(key, len(key))
        start = ctypes.addressof(buffer)
        position = c_void_p(start)
        handle = decode(None, byref(position), len(key))
        if handle and position.value == start + len(key) and _key_type(handle) == _RSA:
            return _owned(handle)
        _key_free(handle)
    return _owned(None)


def _verifies(handle: int | None, digest: int | None, signature: bytes, data: bytes) -> bool:
    if not handle:
        return False
    context = _context_new()
    try:
        return (
            _verify_init(context, None, digest, None, handle) == 1
            and _verify(context, signature, len(signature), data, len(data)) == 1
        )
    finally:
        _context_free(context)
