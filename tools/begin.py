"""
The beginning of a relay, ``./relay init DOMAIN``: writes roster and pillar, tries ssh, and prints the DNS records.

Called again, it goes on: what was written stays as it is, also where it has been edited since.
"""

import argparse
import contextlib
import ipaddress
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import chatmail_schema
import chatmail_zone
from chatmail_session import reached
from tools.apply_progress import printable
from tools.errors import ApplyError
from tools.relay import COMMANDS
from tools.yaml_files import mapping

CHECKOUT = Path(__file__).resolve().parents[1]
FACTS = Path(__file__).with_name("begin_facts.sh")

ROSTER = """\
{name}:
  host: {host}
  user: {user}
{more}  ssh_options:
    # One ssh connection serves the five that salt-ssh makes in a run.
    - ControlMaster=auto
    - ControlPath=~/.ssh/salt-%C
    - ControlPersist=60
"""
PILLAR = """\
# Settings of this relay; docs/settings.md has all that there are. ./relay apply puts them into force.
chatmail:
  mail_domain: {domain}
"""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
# Salt has a shell read both.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# `./relay NAME COMMAND` would be a command, and the pillar the top file.
NO_NAMES = {*COMMANDS, "help", "top"}


@dataclass(frozen=True)
class Answers:
    """What a relay begins with; ``name`` is the operator's word for it, in the roster."""

    domain: str
    name: str
    host: str
    user: str
    port: int
    contact: str


def schema() -> dict:
    """Return the schema of all settings."""
    return yaml.safe_load((CHECKOUT / "chatmail" / "defaults.yaml").read_text())


def check(answers: Answers) -> None:
    """Raise ``ApplyError`` for a setting that no relay can have, or what cannot stand in a roster or be a file."""
    if problems := chatmail_schema.problems(schema(), _settings(answers)):
        raise ApplyError("\n".join(problems))
    if not _NAME.fullmatch(answers.name) or answers.name in NO_NAMES:
        raise ApplyError(
            f"--name: found {answers.name}, allowed are letters, digits, - and _, but neither top nor a command "
            "of ./relay."
        )
    if not _HOST.fullmatch(answers.host):
        raise ApplyError(f"--host: found {answers.host}, allowed is a name or an address, without user and port.")
    if not _USER.fullmatch(answers.user):
        raise ApplyError(f"--user: found {answers.user}, allowed are letters, digits, - . and _.")
    if not 0 < answers.port < 65536:
        raise ApplyError(f"--port: found {answers.port}, allowed is 1 to 65535.")


def _settings(answers: Answers) -> dict:
    return {"mail_domain": answers.domain} | ({"contact": answers.contact} if answers.contact else {})


def _scalar(text: str) -> str:
    """Text as YAML writes it: in quotes where it would be a number or a boolean."""
    return yaml.safe_dump(text).splitlines()[0]


def _appended(path: Path, text: str, *keys: str) -> str:
    """The file's text with more at its end, which has to be read as the value of ``keys``; raises ``ApplyError``."""
    before = path.read_text() if path.exists() else ""
    after = f"{before}\n{text}" if before.strip() else text
    try:
        found = yaml.safe_load(after)
        for key in keys:
            found = found[key]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ApplyError(f"{path} is laid out in another way. Add to it, by hand:\n{text}") from error
    return after


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"wrote {path}")


def write(answers: Answers, checkout: Path) -> None:
    """
    Write what is missing of the relay's entry in ``etc/roster``, its pillar, and its line in ``pillar/top.sls``.

    Raises ``ApplyError``, and writes none of them, where one is there and says something else.
    """
    roster, pillar, top = (checkout / path for path in ("etc/roster", f"pillar/{answers.name}.sls", "pillar/top.sls"))
    entry = mapping(roster).get(answers.name)
    if entry and entry.get("host") != answers.host:
        raise ApplyError(
            f"{roster} has {answers.name} already, at {entry.get('host')}. Is it another relay? Then --name NAME says "
            "what to call this one; else change the file, or leave --host out."
        )
    settings = mapping(pillar).get("chatmail") or {}
    domain = settings.get("mail_domain")
    if domain and domain != answers.domain:
        raise ApplyError(f"{pillar} is of {domain}. --name NAME says what to call another relay.")
    if settings and not domain:
        raise ApplyError(f"{pillar} has no mail_domain. Add below `chatmail:`, by hand: mail_domain: {answers.domain}")
    tops = mapping(top)
    name = _scalar(answers.name)
    line = f"  {name}:\n    - {name}\n"
    if tops and list(tops) != ["base"]:
        raise ApplyError(f"{top} has not only `base:` in it. Add to that, by hand:\n{line}")
    files = {}
    if not entry:
        more = "  sudo: True\n" if answers.user != "root" else ""
        more += f"  port: {answers.port}\n" if answers.port != 22 else ""
        text = ROSTER.format(name=name, host=_scalar(answers.host), user=_scalar(answers.user), more=more)
        files[roster] = _appended(roster, text, answers.name)
    if not domain:
        text = PILLAR.format(domain=_scalar(answers.domain))
        text += f"  {yaml.safe_dump({'contact': answers.contact})}" if answers.contact else ""
        files[pillar] = _appended(pillar, text, "chatmail")
    if answers.name not in (tops.get("base") or {}):
        files[top] = _appended(top, line if tops else f"base:\n{line}", "base", answers.name)
    for path, text in files.items():
        _write(path, text)


def _ask(question: str, default: str) -> str:
    """What is typed, or the default; the default where nobody is there to ask."""
    if not sys.stdin.isatty():
        return default
    shown = f" [{default}]" if default else ""
    return input(f"{question}{shown}: ").strip() or default


def addresses(name: str, checkout: Path) -> list[str]:
    """Return the addresses that the host has, by ssh. Raises ``ApplyError`` with what ssh says and what to do."""
    # Salt takes a second to be imported.
    from tools.ssh import Target, client

    # The roster's ControlPath; who has never used ssh does not have it.
    Path("~/.ssh").expanduser().mkdir(mode=0o700, exist_ok=True)
    ssh = client(checkout / "etc", [name], ["chatmail"])
    try:
        target = Target.of(ssh, name)
    finally:
        ssh.fsclient.destroy()
    argv = target.command(FACTS.read_text())
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    where = f"{target.user}@{target.address}"
    if done.returncode and sys.stdin.isatty() and _is_about_keys(done.stderr):
        print(f"ssh does not let you in yet. Putting your key on {where} asks for the password there:")
        subprocess.run(["ssh-copy-id", "-p", str(target.port), where], check=False)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = printable(done.stderr.strip()) or f"exit code {done.returncode}"
        raise ApplyError(f"ssh to {where}, port {target.port}, failed: {said}\n{_advice(target, said)}")
    return listed(done.stdout)


def listed(text: str) -> list[str]:
    """Return the addresses among what a host has printed; the start files of its shell may print more."""
    found = []
    for word in text.split():
        with contextlib.suppress(ValueError):
            found.append(str(ipaddress.ip_address(word)))
    return found


def _is_about_keys(said: str) -> bool:
    return "Permission denied" in said or "Host key verification failed" in said


def _advice(target, said: str) -> str:
    if "sudo" in said:
        return f"{target.user} needs sudo without a password there: {target.user} ALL=(ALL) NOPASSWD: ALL in sudoers."
    return target.next_step(said)


def records(settings: dict, own: Sequence[str]) -> str:
    """Return the records to publish as a zone file, as far as they are known before the first apply."""
    effective = chatmail_schema.effective(schema(), settings)
    if effective["ipv4_relay"]:
        return ""
    return chatmail_zone.zone_text(
        chatmail_zone.wanted(effective, *chatmail_zone.public_addresses(effective, own), None)
    )


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./relay init", description="Begin a relay.")
    parser.add_argument("domain", help="what stands after the @ in addresses: a host name, or the IPv4 address")
    parser.add_argument("--host", help="name or address for ssh; default: the domain")
    parser.add_argument("--contact", help="e-mail or chat link of who runs the relay, for its pages; may be empty")
    parser.add_argument("--user", default="root", help="for ssh; another than root needs sudo without a password")
    parser.add_argument("--port", type=int, default=22, help="for ssh")
    parser.add_argument("--name", default="relay", help="what you call it, where you have several (relay)")
    return parser.parse_args(words)


def begin(options: argparse.Namespace, checkout: Path) -> None:
    """Do it all. Raises ``ApplyError`` where something is in the way."""
    entry = mapping(checkout / "etc/roster").get(options.name) or {}
    pillar = mapping(checkout / f"pillar/{options.name}.sls").get("chatmail") or {}
    host = options.host or entry.get("host") or _ask("Host, its name or address for ssh", options.domain)
    contact = options.contact
    if contact is None:
        contact = pillar.get("contact") or _ask(
            "Who runs it, an e-mail address or chat link for the pages (may be empty)", ""
        )
    answers = Answers(options.domain, options.name, host, options.user, options.port, contact)
    check(answers)
    write(answers, checkout)
    own = addresses(answers.name, checkout)
    print(f"ssh to {answers.host} works.\n")
    settings = _settings(answers) | pillar
    hidden = not any(ipaddress.ip_address(address).is_global for address in own)
    if hidden and "public_addresses" not in settings and (found := reached(answers.host)):
        path = checkout / f"pillar/{answers.name}.sls"
        settings["public_addresses"] = found
        print(f"The host has {', '.join(own)} behind address translation, and is reached at {', '.join(found)}:")
        line = f"  public_addresses: [{', '.join(found)}]\n"
        _write(path, _appended(path, line, "chatmail", "public_addresses"))
    if zone := records(settings, own):
        print(
            "Enter at the provider of the domain; the DKIM key comes with the first apply, and all else may be there:\n"
        )
        print(zone)
    print(f"Then: ./relay {'' if options.name == 'relay' else f'{options.name} '}apply")


def main(words: Sequence[str]) -> int:
    """Run the command. Raises ``ApplyError``."""
    begin(_arguments(words), CHECKOUT)
    return 0
