"""A service reads what its file says, and says what is wrong with it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatmaild.config import Config, ConfigError, read_config


@dataclass(frozen=True, kw_only=True)
class Everything(Config):
    """A setting of each type."""

    number: int
    load: float
    switch: bool
    words: tuple[str, ...]
    address: str | None = None
    path: Path = Path("/usual")


FILE = """
mail_domain = "chat.example.org"
mailboxes_dir = "/srv/mail"
number = 5
load = 2
switch = true
words = ["a@b.org", "@c.org"]
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, kind: type = Everything):
        path = tmp_path / "service.toml"
        path.write_text(text)
        return read_config(path, kind)

    return read


def test_values_have_the_types_of_their_fields(read):
    config = read(FILE + 'path = "/srv/x"\naddress = "192.0.2.7"')
    assert config == Everything(
        mail_domain="chat.example.org",
        mailboxes_dir=Path("/srv/mail"),
        number=5,
        load=2.0,
        switch=True,
        words=("a@b.org", "@c.org"),
        path=Path("/srv/x"),
        address="192.0.2.7",
    )
    assert isinstance(config.load, float)


def test_what_may_be_missing_has_its_default(read):
    config = read(FILE)
    assert (config.address, config.path) == (None, Path("/usual"))


def test_keys_of_another_version_do_not_count(read):
    assert read(FILE + "new = 1") == read(FILE)


def test_everything_that_is_missing_or_of_another_type_is_named_together(read, tmp_path):
    with pytest.raises(ConfigError) as caught:
        read('mail_domain = 1\nnumber = true\nload = "2"\nswitch = "true"\nwords = "a b"')
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/service.toml: mail_domain is 1; allowed is text",
        f"{tmp_path}/service.toml: mailboxes_dir is missing; an apply writes it",
        f"{tmp_path}/service.toml: number is True; allowed is a whole number",
        f"{tmp_path}/service.toml: load is '2'; allowed is a number",
        f"{tmp_path}/service.toml: switch is 'true'; allowed is true or false",
        f"{tmp_path}/service.toml: words is 'a b'; allowed is a list",
    ]


def test_finding_a_mailbox_creates_nothing(tmp_path):
    config = Config(mail_domain="chat.example.org", mailboxes_dir=tmp_path / "mail")
    assert config.mailbox("user1@chat.example.org").path == tmp_path / "mail/user1@chat.example.org"
    assert not (tmp_path / "mail").exists()


@pytest.mark.parametrize(
    "address", ["", None, "..", ".", "../x@chat.example.org", "a/b@c", "a\0@b", "x" * 250 + "@b.org"]
)
def test_what_no_mailbox_can_be_called(address):
    config = Config(mail_domain="chat.example.org", mailboxes_dir=Path("/nowhere"))
    with pytest.raises(ValueError, match="a mailbox needs an address"):
        config.mailbox(address)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot read the settings: No such file"):
        read_config(tmp_path / "absent.toml", Config)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "service.toml").write_bytes(b"x = \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 4"):
        read_config(tmp_path / "service.toml", Config)


def check(kind: str, path: Path) -> subprocess.CompletedProcess:
    """The command by which an apply has a file checked."""
    command = [sys.executable, "-BP", "-m", "chatmaild.config", kind, path]
    source = {"PYTHONPATH": str(Path(__file__).parents[3] / "chatmaild/src")}
    return subprocess.run(command, env=source, capture_output=True, text=True, check=False)


def test_the_check_before_a_file_is_replaced(tmp_path):
    path = tmp_path / "tmp"
    path.write_text(FILE)
    assert check("chatmaild.config:Config", path).returncode == 0
    failed = check("chatmaild.echobot:Settings", path)
    assert failed.returncode == 1
    assert failed.stderr == f"{path}: echobot_address is missing; an apply writes it\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_octets_give_settings_or_an_error_that_names_the_file(tmp_path, octets):
    path = tmp_path / "any.toml"
    path.write_bytes(FILE.encode() + octets)
    try:
        assert read_config(path, Everything).number == 5
    except ConfigError as error:
        assert str(path) in str(error)
