"""``chatmail_mailboxes.renamed`` moves what there is, says what stays, and touches nothing in test mode."""

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_mailboxes

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def host():
    return {"moves": {}, "taken": [], "moved": [], "fault": None}


@pytest.fixture
def configure_loader_modules(testmode, host):
    def rename(moves):
        if host["fault"]:
            raise CommandExecutionError(host["fault"])
        host["moved"].append(moves)

    return {
        chatmail_mailboxes: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_mailboxes.to_rename": lambda *_: (host["moves"], host["taken"]),
                "chatmail_mailboxes.rename": rename,
            },
        }
    }


def renamed():
    return chatmail_mailboxes.renamed("old.test", "new.test", "/srv/mail")


def test_without_mailboxes_of_the_old_domain_nothing_changes(host):
    ret = renamed()
    assert (ret["result"], ret["changes"], host["moved"]) == (True, {}, [])


def test_mailboxes_are_moved_and_counted(testmode, host):
    host["moves"] = {"/srv/mail/a@old.test": "/srv/mail/a@new.test"}
    ret = renamed()
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == {"mailboxes": {"old": "1 of old.test", "new": "1 of new.test"}}
    assert host["moved"] == ([] if testmode else [host["moves"]])


def test_one_that_stays_is_named(host):
    host["taken"] = ["/srv/mail/a@old.test"]
    assert "/srv/mail/a@old.test" in renamed()["comment"]


def test_one_that_cannot_be_moved_fails_with_the_reason(testmode, host):
    host |= {"moves": {"/a@old.test": "/a@new.test"}, "fault": "another file system"}
    ret = renamed()
    assert ret["result"] is (None if testmode else False)
    assert testmode or (ret["comment"] == "another file system" and ret["changes"] == {})
