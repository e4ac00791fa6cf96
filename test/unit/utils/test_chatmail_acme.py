"""Keys in acmetool's store, what CAA records allow, and whose words an operator reads when there is no certificate."""

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_acme


@pytest.fixture
def acme_state(tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_acme, "STATE", tmp_path)
    return tmp_path


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_a_made_key_is_found_again_by_its_type(acme_state, key_type):
    assert chatmail_acme.key_name(key_type) == ""
    name = chatmail_acme.make_key(key_type)
    assert chatmail_acme.key_name(key_type) == name
    assert len(name) == 52
    assert chatmail_acme.key_name({"ecdsa": "rsa", "rsa": "ecdsa"}[key_type]) == ""
    assert (acme_state / "keys" / name / "privkey").stat().st_mode & 0o777 == 0o600


def test_the_key_in_use_is_kept_though_there_are_others(acme_state):
    chatmail_acme.make_key("ecdsa")
    used = chatmail_acme.make_key("ecdsa")
    assert chatmail_acme.key_name("ecdsa", str(acme_state / "keys" / used / "privkey")) == used


ACCOUNT = "https://ca.example/acct/1"


@pytest.mark.parametrize(
    ("records", "allowed"),
    [
        ([], True),
        (["ca.example"], True),
        ([f"ca.example; accounturi={ACCOUNT}"], True),
        (["other.example", f"ca.example;accounturi={ACCOUNT};validationmethods=http-01"], True),
        (["other.example"], False),
        ([";"], False),
        ([f"ca.example;accounturi={ACCOUNT}0"], False),
    ],
)
def test_caa_records_allow_an_authority_and_an_account(records, allowed):
    refusal = chatmail_acme.caa_refusal(records, ["ca.example"], ACCOUNT)
    assert (refusal == "") is allowed
    if not allowed:
        assert records[0] in refusal
        assert ACCOUNT in refusal


def test_of_acmetools_log_the_authoritys_words_stay():
    log = """\
20261121142505 [ERROR] acmetool.storageops: failed to reconcile: the following errors occurred:
20261121142505 [CRITICAL] acmetool: fatal: reconcile: the following errors occurred:
error satisfying Target(chat.test): the following errors occurred:
Get "http://www.chat.test/.well-known/acme-challenge/x": no such host;
could not install DNS challenge, no hooks succeeded;
challenge type not supported]
"""
    reason = chatmail_acme.reason(log)
    assert reason.endswith('Get "http://www.chat.test/.well-known/acme-challenge/x": no such host;')
    assert "DNS challenge" not in reason
    assert chatmail_acme.reason("") == "acmetool does not say why"


def test_an_authority_that_is_down_is_named():
    with pytest.raises(CommandExecutionError, match=r"does not answer at https://127\.0\.0\.1:9/dir: .*refused"):
        chatmail_acme.directory_meta("https://127.0.0.1:9/dir")


def test_the_authoritys_problem_document_is_told_before_all_else():
    problem = (
        '(problem (type "urn:ietf:params:acme:error:connection") (instance "") (id <nil>) (title ""): '
        '(detail "Get \\"http://chat.test:80/.well-known/acme-challenge/x\\": i/o timeout"))'
    )
    log = f"""\
20261127171959 [INFO] acmetool.solver: unsuccessful challenge: authorization "https://ca.test/authZ/1" failed: {problem}
20261127171959 [INFO] acmetool.solver: unsuccessful challenge: authorization "https://ca.test/authZ/1" failed: {problem}
20261127171959 [CRITICAL] acmetool: fatal: reconcile: exhausted all possible challenges
"""
    said = 'the authority says: Get "http://chat.test:80/.well-known/acme-challenge/x": i/o timeout (connection)'
    assert chatmail_acme.reason(log) == said
