"""SHA-512 crypt by the system's libcrypt."""

import re
import threading

import pytest

from chatmaild.mailboxes.password_hash import PASSWORD_MAX, make_salt, matches, sha512_crypt


@pytest.mark.parametrize(
    "password, salt, expected",
    [
        # Published with the scheme (SHA-crypt.txt).
        (
            b"Hello world!",
            "saltstring",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        # By another implementation: openssl passwd -6
        (
            "pässwörd".encode(),
            "saltstring",
            "$6$saltstring$6PSVl254uv0cWCoUS0qzSX5NenRA/YFCwPzGA9ONu.MmmxqXTWHerEzD8WyuBl3ukfIZZU9uxLD6Bn6p7S3rG.",
        ),
    ],
)
def test_known_hashes(password, salt, expected):
    assert sha512_crypt(password, salt) == expected


@pytest.mark.parametrize("password", [b"", b"x", b"\xff\xfe\t\n", b"x" * PASSWORD_MAX])
def test_the_form_of_a_hash(password):
    salt = make_salt()
    hashed = sha512_crypt(password, salt)
    assert re.fullmatch(re.escape(f"$6${salt}$") + "[./0-9A-Za-z]{86}", hashed)
    assert sha512_crypt(password, salt) == hashed
    assert sha512_crypt(password, make_salt()) != hashed


def test_salts_differ():
    assert len({make_salt() for _ in range(100)}) == 100


@pytest.mark.parametrize("password", [b"x" * (PASSWORD_MAX + 1), b"secret\0", b"\0"])
def test_passwords_that_libcrypt_would_misread(password):
    with pytest.raises(ValueError, match="at most 511 bytes and no NUL"):
        sha512_crypt(password, make_salt())


@pytest.mark.parametrize("salt", ["", "x" * 17, "a$b", "é", "a\n"])
def test_salts_that_libcrypt_would_misread(salt):
    with pytest.raises(ValueError, match="a salt has"):
        sha512_crypt(b"secret", salt)


def test_threads_do_not_disturb_each_other():
    expected = {number: sha512_crypt(b"%d" % number, "salt") for number in range(8)}
    found = {}

    def hash_often(number):
        found[number] = {sha512_crypt(b"%d" % number, "salt") for _ in range(5)}

    threads = [threading.Thread(target=hash_often, args=(number,)) for number in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {hashed} for number, hashed in expected.items()}


@pytest.mark.parametrize("prefix", ["", "{SHA512-CRYPT}", "{CRYPT}"])
def test_a_password_matches_its_own_hash_alone(prefix):
    stored = prefix + sha512_crypt(b"secret", make_salt())
    assert matches(b"secret", stored)
    assert not any(matches(password, stored) for password in (b"Secret", b"", b"secret\0x", b"secret" * 100))


@pytest.mark.parametrize(
    "stored", ["", "{PLAIN}secret", "secret", "*0", "{SHA512-CRYPT}", "$6$", "{SSHA}c2VjcmV0", "\udcff"]
)
def test_what_is_no_hash_matches_nothing(stored):
    assert not matches(b"secret", stored)
    assert not matches(stored.encode(errors="replace"), stored)
