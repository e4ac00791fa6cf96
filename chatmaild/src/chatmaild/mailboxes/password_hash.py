"""Hashing passwords with SHA-512 crypt of the system's libcrypt (crypt(5)).

Python's own `crypt` module is gone in 3.13 and holds the interpreter lock while it hashes; ctypes gives it up, so
hashes are computed in parallel threads.
"""

import ctypes
import hmac
import secrets
import string

# crypt(3): CRYPT_MAX_PASSPHRASE_SIZE counts the NUL at the end.
PASSWORD_MAX = 511  # bytes

_SALT_ALPHABET = "./" + string.digits + string.ascii_letters
_SALT_LENGTH = 16  # characters, the most that the scheme takes
_CRYPT_DATA_SIZE = 32768  # bytes, sizeof(struct crypt_data)

_crypt_rn = ctypes.CDLL("libcrypt.so.1").crypt_rn
_crypt_rn.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
_crypt_rn.restype = ctypes.c_char_p


def make_salt() -> str:
    """A random salt of 96 bits."""
    return "".join(secrets.choice(_SALT_ALPHABET) for _ in range(_SALT_LENGTH))


def sha512_crypt(password: bytes, salt: str) -> str:
    """Hash `password` with the scheme's default of 5000 rounds; takes a few milliseconds.

    :param password: at most `PASSWORD_MAX` bytes without NUL; libcrypt would take a longer one for invalid,
        and ignore what follows a NUL.
    :param salt: at most 16 characters of ``./0-9A-Za-z``.
    :return: ``$6$SALT$HASH``
    :raises ValueError: the password or the salt has another form.
    """
    if len(password) > PASSWORD_MAX or b"\0" in password:
        raise ValueError(f"a password has at most {PASSWORD_MAX} bytes and no NUL")
    if not salt or len(salt) > _SALT_LENGTH or not set(salt) <= set(_SALT_ALPHABET):
        raise ValueError(f"a salt has 1 to {_SALT_LENGTH} characters of ./0-9A-Za-z")
    scratch = ctypes.create_string_buffer(_CRYPT_DATA_SIZE)
    result = _crypt_rn(password, f"$6${salt}".encode(), scratch, _CRYPT_DATA_SIZE)
    if result is None:
        raise RuntimeError("libcrypt offers no SHA-512 crypt")
    return result.decode()


def matches(password: bytes, stored: str) -> bool:
    """Whether `password` is the one that was hashed, by any method of crypt(5).

    :param password: what no hash can be of (see `sha512_crypt`) matches none.
    :param stored: the hash, with or without the name of its scheme, such as ``{SHA512-CRYPT}$6$SALT$HASH``; one of
        another kind is matched by nothing.
    """
    setting = stored.rpartition("}")[2].encode(errors="replace")
    if len(password) > PASSWORD_MAX or b"\0" in password:
        return False
    result = _crypt_rn(password, setting, ctypes.create_string_buffer(_CRYPT_DATA_SIZE), _CRYPT_DATA_SIZE)
    return result is not None and result[:1] != b"*" and hmac.compare_digest(result, setting)
