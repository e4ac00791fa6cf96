"""Certificate states make a pair when it is not right, verify it, and tell the truth in test mode."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_cert as module
from _states import chatmail_cert

NAMES = ["_chat.test"]

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def configure_loader_modules(testmode):
    return {
        module: {},
        chatmail_cert: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_cert.problems": module.problems,
                "chatmail_cert.make_self_signed": module.make_self_signed,
            },
        },
    }


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "c.pem", tmp_path / "k.pem"


def test_a_missing_pair_is_made(testmode, paths):
    cert, key = map(str, paths)
    ret = chatmail_cert.self_signed(cert, key, NAMES)
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"][cert]["old"] == f"{cert} is missing"
    assert paths[0].exists() is not testmode


def test_a_right_pair_is_left_alone(paths):
    module.make_self_signed(*map(str, paths), NAMES)
    before = paths[0].read_bytes()
    ret = chatmail_cert.self_signed(*map(str, paths), NAMES)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert paths[0].read_bytes() == before


def test_other_names_lead_to_another_certificate(testmode, paths):
    module.make_self_signed(*map(str, paths), ["_old.test"])
    before = paths[0].read_bytes()
    ret = chatmail_cert.self_signed(*map(str, paths), NAMES)
    assert ret["changes"]
    assert (paths[0].read_bytes() == before) is testmode


def test_a_pair_that_cannot_be_written_is_a_failure(testmode, paths):
    def refuse(*_):
        raise CommandExecutionError("cannot write: disk full")

    chatmail_cert.__salt__["chatmail_cert.make_self_signed"] = refuse
    ret = chatmail_cert.self_signed(*map(str, paths), NAMES)
    if not testmode:
        assert (ret["result"], ret["changes"], ret["comment"]) == (False, {}, "cannot write: disk full")
    assert not paths[0].exists()


def test_an_operators_pair_where_dovecot_cannot_read_it_is_refused(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_cert, "_TMP", (f"{tmp_path}/",))
    module.make_self_signed(*map(str, paths), NAMES)
    ret = chatmail_cert.usable(*map(str, paths), NAMES)
    assert ret["result"] is False
    assert f"{paths[0]} is where Dovecot has a directory of its own" in ret["comment"]


def test_an_operators_pair_is_judged_and_never_changed(paths, monkeypatch):
    monkeypatch.setattr(chatmail_cert, "_TMP", ("/nowhere/",))
    ret = chatmail_cert.usable(*map(str, paths), NAMES)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "tls_external_cert_and_key" in ret["comment"]
    module.make_self_signed(*map(str, paths), NAMES)
    assert chatmail_cert.usable(*map(str, paths), NAMES)["result"] is True


DIRECTORY = "https://ca.test/dir"


@pytest.fixture
def authority(paths):
    """An authority whose certificates are the self-signed ones; `refusal` makes it refuse, `due` calls for renewal."""

    class Authority:
        refusal = None
        due = False
        orders = 0

        def obtain(self, directory_url, email, names):
            self.orders += 1
            if self.refusal:
                raise CommandExecutionError(self.refusal)
            module.make_self_signed(*map(str, paths), names)

    authority = Authority()
    chatmail_cert.__salt__["chatmail_cert.acme_obtain"] = authority.obtain
    chatmail_cert.__salt__["chatmail_cert.acme_due"] = lambda _: authority.due
    return authority


def test_a_missing_certificate_is_got_from_the_authority(testmode, paths, authority):
    ret = chatmail_cert.acme(*map(str, paths), NAMES, DIRECTORY)
    assert ret["result"] is (None if testmode else True)
    assert DIRECTORY in ret["changes"][str(paths[0])]["new"]
    assert authority.orders == (0 if testmode else 1)


def test_the_authority_is_not_asked_about_a_right_certificate(paths, authority):
    module.make_self_signed(*map(str, paths), NAMES)
    ret = chatmail_cert.acme(*map(str, paths), NAMES, DIRECTORY)
    assert (ret["result"], ret["changes"], authority.orders) == (True, {}, 0)


@pytest.mark.parametrize("testmode", [False], indirect=True)
def test_without_certificate_a_refusal_fails_with_the_authoritys_words(paths, authority):
    authority.refusal = "rate limited"
    ret = chatmail_cert.acme(*map(str, paths), NAMES, DIRECTORY)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"no certificate from {DIRECTORY}: rate limited" in ret["comment"]


@pytest.mark.parametrize("testmode", [False], indirect=True)
def test_a_refused_renewal_leaves_the_right_certificate_with_a_warning(paths, authority):
    module.make_self_signed(*map(str, paths), NAMES)
    before = paths[0].read_bytes()
    authority.refusal, authority.due = "the certificate authority does not answer", True
    ret = chatmail_cert.acme(*map(str, paths), NAMES, DIRECTORY)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "does not answer" in ret["warnings"][0]
    assert paths[0].read_bytes() == before


def test_a_key_is_made_once(testmode):
    made = []
    chatmail_cert.__salt__["chatmail_cert.acme_key_id"] = lambda _: "".join(made)
    chatmail_cert.__salt__["chatmail_cert.make_acme_key"] = lambda _: made.append("id") or "id"
    assert chatmail_cert.acme_key("ecdsa")["result"] is (None if testmode else True)
    if not testmode:
        assert chatmail_cert.acme_key("ecdsa")["changes"] == {}
    assert len(made) == (0 if testmode else 1)


@pytest.mark.parametrize("state", [chatmail_cert.self_signed, chatmail_cert.usable])
@pytest.mark.parametrize("testmode", [True], indirect=True)
def test_a_bare_host_can_be_asked_what_would_change(paths, state):
    """Before the first apply the execution module is missing, as its library is."""
    chatmail_cert.__salt__.clear()
    ret = state(*map(str, paths), NAMES)
    assert (ret["result"], ret["changes"]) == (None, {})
    assert "python3-cryptography" in ret["comment"]
