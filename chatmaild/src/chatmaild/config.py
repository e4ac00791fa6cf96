"""Settings of the relay's services: section ``[params]`` of an INI file, read once at start."""

import configparser
import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints
from urllib.parse import urlsplit

from . import invites
from .mailbox import PENDING_NOTIFICATIONS, Mailbox

SECTION = "params"

_HOST_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# At least two labels, and a last one that cannot be part of an IPv4 address (RFC 3696 section 2).
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_HOST_LABEL}\.)+(?![0-9]+\Z){_HOST_LABEL}")
_SIZE = re.compile(r"([0-9]{1,12})([GM]?)B?")


class ConfigError(Exception):
    """The settings file cannot be used; the text names the file and every fault in it."""


def parse_ipv4(text: str) -> str | None:
    """Return `text` if it is an IPv4 address in dotted-quad form, else None."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return None


def parse_size_mb(text: str) -> int:
    """Convert a size such as ``500M``, ``2G``, ``100MB`` or ``256`` to whole mebibytes.

    :raises ValueError: `text` has another form.
    """
    match = _SIZE.fullmatch(text.strip().upper())
    if not match:
        raise ValueError("allowed is a whole number of megabytes, or one followed by M or G, such as 500M")
    return int(match[1]) * (1024 if match[2] == "G" else 1)


def parse_bool(text: str) -> bool:
    """Only the word true, in any case, is true."""
    return text.strip().lower() == "true"


def _parse_words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _parse_number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError("allowed is a number, such as 5 or 2.5")
    return float(text)


def _parse_mail_domain(text: str) -> str:
    if not (parse_ipv4(text) or _HOST_NAME.fullmatch(text)):
        raise ValueError(
            "allowed is a host name in lower case, such as chat.example.org, or an IPv4 address without brackets"
        )
    return text


def _parse_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("allowed is an IP address") from None


def _parse_path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("allowed is an absolute path")
    return path


def _parse_path_pair(text: str) -> tuple[Path, ...]:
    parts = text.split()
    if len(parts) not in (0, 2):
        raise ValueError("allowed are two space-separated absolute paths, or nothing")
    return tuple(_parse_path(part) for part in parts)


def _parse_https_url(text: str) -> str:
    fault = ValueError("allowed is an address that begins with https://, or nothing")
    if re.search(r"[^!-~]", text):
        raise fault
    try:
        parts = urlsplit(text)
        complete = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        raise fault from None
    if text and not complete:
        raise fault
    return text


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"allowed is a whole number from {lowest} to {highest}")
        return int(text)

    return parse


# How the text of each kind of setting is read.
Domain = Annotated[str, _parse_mail_domain]
Text = Annotated[str, str]
Words = Annotated[tuple[str, ...], _parse_words]
Switch = Annotated[bool, parse_bool]
Number = Annotated[float, _parse_number]
Count = Annotated[int, _integer(1, 10**9)]
Days = Annotated[int, _integer(1, 10**5)]
Port = Annotated[int, _integer(1, 65535)]
Size = Annotated[int, parse_size_mb]
Address = Annotated[str, _parse_address]
AbsolutePath = Annotated[Path, _parse_path]
HttpsUrl = Annotated[str, _parse_https_url]
PathPair = Annotated[tuple[Path, ...], _parse_path_pair]
NameLength = Annotated[int, _integer(1, 64)]  # octets in a local part, RFC 5321 section 4.5.3.1.1
PasswordLength = Annotated[int, _integer(1, 511)]  # crypt(3) takes no more


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings, converted; each field is named after its key in the file.

    Sizes are in mebibytes except `max_message_size` (bytes); ages are in days.
    """

    mail_domain_bare: Domain  # the key is `mail_domain`
    mailboxes_dir: AbsolutePath

    # filtermail
    max_user_send_per_minute: Count = 60
    max_user_send_burst_size: Count = 10
    max_message_size: Count = 30 * 1024 * 1024
    passthrough_senders: Words = ()
    passthrough_recipients: Words = ()
    filtermail_host: Address = "127.0.0.1"
    filtermail_smtp_port: Port = 10080
    filtermail_smtp_port_incoming: Port = 10081
    filtermail_http_port_incoming: Port = 10082
    postfix_host: Text = "127.0.0.1"
    postfix_reinject_port: Port = 10025
    postfix_reinject_port_incoming: Port = 10026

    # doveauth
    username_min_length: NameLength = 9
    username_max_length: NameLength = 9
    password_min_length: PasswordLength = 9
    max_load_1m: Number = 5.0
    min_available_memory: Size = 200
    min_free_disk_space: Size = 1024
    max_creations_per_hour: Count = 100
    invite_only: Switch = False
    invites_dir: AbsolutePath = invites.DIRECTORY
    echobot: Switch = False
    echobot_password_path: AbsolutePath = Path("/run/echobot/password")

    # mailboxes' expiry
    max_mailbox_size: Size = 500
    delete_mails_after: Days = 20
    delete_large_after: Days = 7
    delete_inactive_users_after: Days = 90
    tmpfs_index: Switch = False
    passdb_path: AbsolutePath = Path("/home/vmail/passdb.sqlite")

    # Dovecot, Postfix and the other services
    max_imap_connections: Count = 10000
    max_smtp_connections: Count = 1000
    imap_rawlog: Switch = False
    imap_compress: Switch = False
    disable_ipv6: Switch = False
    notification_url: HttpsUrl = "https://notifications.delta.chat/notify"
    turn_socket_path: AbsolutePath = Path("/run/chatmail-turn/turn.socket")
    iroh_relay: Text = None  # not set, and set to nothing, have different meanings
    mtail_address: Text = ""
    tls_external_cert_and_key: PathPair = ()
    acme_email: Text = ""

    # web pages
    www_folder: Text = ""
    privacy_postal: Text = ""
    privacy_mail: Text = ""
    privacy_pdo: Text = ""
    privacy_supervisor: Text = ""

    # keys of the file that no service knows
    unknown_keys: tuple[str, ...] = ()

    @functools.cached_property
    def ipv4_relay(self) -> str | None:
        """The relay's IPv4 address if it is known by that instead of a host name."""
        return parse_ipv4(self.mail_domain_bare)

    @functools.cached_property
    def mail_domain(self) -> str:
        """What follows the @ in an address; a domain literal for an IPv4 relay (RFC 5321 section 4.1.3)."""
        return f"[{self.mail_domain_bare}]" if self.ipv4_relay else self.mail_domain_bare

    @functools.cached_property  # asked for at every login
    def echobot_address(self) -> str:
        """The address of the relay's own bot, which nobody else can have."""
        return f"echo@{self.mail_domain}"

    @property
    def postfix_myhostname(self) -> str:
        """The host name of the mail server: Postfix takes no address there, so its reverse name stands in."""
        if self.ipv4_relay:
            return ipaddress.IPv4Address(self.ipv4_relay).reverse_pointer
        return self.mail_domain_bare

    @property
    def tls_mode(self) -> str:
        """``external``, ``self`` (self-signed) or ``acme``."""
        if self.tls_external_cert_and_key:
            return "external"
        if self.mail_domain_bare.startswith("_") or self.ipv4_relay:
            return "self"
        return "acme"

    @property
    def tls_cert_path(self) -> Path:
        """The certificate chain in PEM form."""
        return self._tls_paths[0]

    @property
    def tls_key_path(self) -> Path:
        """The private key of the certificate in PEM form."""
        return self._tls_paths[1]

    @property
    def _tls_paths(self) -> tuple[Path, ...]:
        match self.tls_mode:
            case "external":
                return self.tls_external_cert_and_key
            case "self":
                return Path("/etc/ssl/certs/mailserver.pem"), Path("/etc/ssl/private/mailserver.key")
        live = Path("/var/lib/acme/live") / self.mail_domain_bare
        return live / "fullchain", live / "privkey"

    @property
    def enable_iroh_relay(self) -> bool:
        """Whether this host runs its own iroh relay."""
        return self.iroh_relay is None and not self.ipv4_relay

    @property
    def iroh_relay_url(self) -> str | None:
        """The iroh relay that clients are told of; None leaves them their own default."""
        if self.enable_iroh_relay:
            return f"https://{self.mail_domain_bare}"
        return self.iroh_relay or None

    @property
    def pending_notifications_dir(self) -> Path:
        """Holds a file for each push notification that is not yet sent."""
        return self.mailboxes_dir / PENDING_NOTIFICATIONS

    def mailbox(self, address: str) -> Mailbox:
        """The mailbox of `address`, whether it exists or not; nothing is created.

        :raises ValueError: no mailbox can have that address.
        """
        return Mailbox(self.mailboxes_dir, address)


def read_config(path: str | Path) -> Config:
    """Read the settings file at `path`.

    :raises ConfigError: the file cannot be read, or settings are missing or wrong; all of them are named.
    """
    values = _read_values(Path(path))
    parsers = _parsers()
    settings: dict[str, Any] = {}
    faults = []
    if "mail_domain" not in values:
        faults.append("mail_domain is missing; it is the domain of the relay's addresses, such as chat.example.org")
    for key in values.keys() & parsers.keys():
        try:
            settings[key] = parsers[key](values[key].strip())
        except ValueError as error:
            faults.append(f"{key} is {values[key]!r}; {error}")
    if not faults:
        bare = settings.pop("mail_domain")
        settings.setdefault("mailboxes_dir", Path("/home/vmail/mail") / bare)
        unknown = tuple(sorted(values.keys() - parsers.keys()))
        config = Config(mail_domain_bare=bare, unknown_keys=unknown, **settings)
        if config.username_min_length <= config.username_max_length:
            return config
        faults.append(
            f"username_min_length is {config.username_min_length};"
            f" allowed is at most username_max_length, {config.username_max_length}"
        )
    raise ConfigError("\n".join(f"{path}: [{SECTION}] {fault}" for fault in sorted(faults)))


def _parsers() -> dict[str, Callable[[str], Any]]:
    """For each key of the file, what converts its text."""
    hints = get_type_hints(Config, include_extras=True)
    parsers = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    parsers["mail_domain"] = parsers.pop("mail_domain_bare")
    return parsers


def _read_values(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    except configparser.Error as error:
        raise ConfigError(f"{path}: {error.message}") from error
    if not parser.has_section(SECTION):
        raise ConfigError(f"{path}: the section [{SECTION}] is missing")
    return dict(parser[SECTION])
