"""The operator's view of addresses: listed in order, shut off, removed; probes come and go."""

import json

import pytest

from chatmaild import accounts, doveauth
from chatmaild.accounts import NoSuchAddress
from chatmaild.config import Config, read_config
from chatmaild.doveauth import PROBES, refusal
from chatmaild.mailboxes.mailbox import DAY

DOMAIN = "chat.example.org"


@pytest.fixture
def config(write_config):
    return read_config(write_config(), Config)


@pytest.fixture
def made(config):
    """Three addresses: one large, one not used for long, one shut off."""
    for number, (name, size, day) in enumerate((("large1234", 5000, 20), ("unused123", 10, 3), ("banned123", 0, 10))):
        box = config.mailbox(f"{name}@{DOMAIN}")
        box.create("{SHA512-CRYPT}x")
        box.set_last_login(day * DAY)
        (box.path / "cur").mkdir()
        (box.path / "cur" / f"{number}.M1.test,S={size}:2,").write_bytes(b"x" * size)
    box.disabled_path.touch()
    return config


def names(listed):
    return [one.address.partition("@")[0] for one in listed]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("size", ["large1234", "unused123"]),
        ("last_login", ["unused123", "banned123"]),
        ("address", ["banned123", "large1234"]),
    ],
)
def test_the_first_of_all_addresses_are_listed(made, order, expected):
    count, listed = accounts.first(accounts.accounts(made, banned=False), order, 2)
    assert (count, names(listed)) == (3, expected)


def test_those_that_are_shut_off_can_be_listed_alone(made):
    count, listed = accounts.first(accounts.accounts(made, banned=True), "size", 10)
    assert (count, names(listed)) == (1, ["banned123"])


def test_a_size_is_what_the_quota_counts(made):
    box = made.mailbox(f"large1234@{DOMAIN}")
    assert accounts.account(box).size == 5000
    box.quota_cache_path.write_text("524288000S\n4000 2\n300 1\n-100 -1\n")
    assert accounts.account(box).size == 4200
    box.quota_cache_path.write_text("524288000S\nnonsense\n")
    assert accounts.account(box).size == 5000


def test_an_address_is_shut_off_and_let_in_again(made):
    box = accounts.existing(made, f"Large1234@{DOMAIN}")
    assert accounts.ban(box)["banned"] is True
    assert box.is_disabled()
    assert accounts.unban(box)["banned"] is accounts.unban(box)["banned"] is False
    assert not box.is_disabled()


def test_a_deleted_address_leaves_nothing(made):
    gone = accounts.delete(accounts.existing(made, f"large1234@{DOMAIN}"))
    assert (gone["address"], gone["size"]) == (f"large1234@{DOMAIN}", 5000)
    assert sorted(path.name.partition("@")[0] for path in made.mailboxes_dir.iterdir()) == ["banned123", "unused123"]


@pytest.mark.parametrize(
    "address", ["nobody123@chat.example.org", "large1234@other.org", "large1234", "../x@chat.example.org", "", "a\0@b"]
)
def test_an_address_that_is_not_there_is_named(made, address):
    with pytest.raises(NoSuchAddress):
        accounts.existing(made, address)


def test_probes_are_made_anew_and_removed(config):
    first, second = accounts.make_probes(config), accounts.make_probes(config)
    assert list(first) == list(second) == [f"{name}@{DOMAIN}" for name in PROBES]
    assert set(first.values()).isdisjoint(second.values())
    assert accounts.first(accounts.accounts(config, banned=False), "size", 9) == (0, [])
    accounts.remove_probes(config)
    assert list(config.mailboxes_dir.iterdir()) == []


def test_nobody_else_can_create_an_address_of_a_probe(write_config):
    config = read_config(write_config(username_max_length=30), doveauth.Settings)
    assert [refusal(config, f"{name}@{DOMAIN}", "long enough") for name in PROBES] == ["the local part is reserved"] * 2


def test_the_command_prints_json_and_says_what_is_wrong(made, write_config, run_service):
    module, option = "chatmaild.accounts", f"--config={write_config()}"
    told = json.loads(run_service(module, option, "info", f"unused123@{DOMAIN}").stdout)
    assert (told["messages"], told["last_login"], told["takes_cleartext"]) == (1, 3 * DAY, False)
    assert json.loads(run_service(module, option, "list", "--limit=1").stdout)["count"] == 3
    refused = run_service(module, option, "ban", f"nobody123@{DOMAIN}")
    assert (refused.returncode, refused.stderr) == (1, f"there is no address 'nobody123@{DOMAIN}' on this relay\n")
