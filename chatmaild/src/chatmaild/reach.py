"""By which ways a domain is reached from this relay: what is known of it, and what its mail servers say now.

The mail servers are connected to by SMTP and by HTTPS, as for a message, but none is sent. Facts alone, as JSON: the
formula has the words (`_utils/chatmail_reach.py`).
"""

import argparse
import asyncio
import dataclasses
import json

import h11

from . import service, socketmap
from .outbound.connecting import Connector
from .outbound.destinations import OF_A_RELAY, introduction
from .outbound.mail_servers import Directory, NotNow, Server, Undeliverable, is_allowed, is_domain
from .outbound.smtp_trial import PORT, Caller, Trial, trial

TRANSPORT = "127.0.0.1", 8464
TRIAL_S = 40  # seconds for one server and way; with the look-ups before it is a minute in all


async def known(domain: str) -> dict | None:
    """What chatmail-transport knows of a domain, as `outbound.destinations.Known` has it; None where it is away."""
    try:
        answer = await socketmap.ask(*TRANSPORT, "known", domain)
    except OSError:
        return None
    # In the daemon's place there may be its fallback, which knows nothing.
    kind, _, text = answer.partition(" ")
    if kind != "OK":
        return None
    way, seconds, why = text.split(" ", 2)
    return {"way": way, "seconds": int(seconds), "why_not_https": why}


async def all_known(domains: list[str]) -> dict[str, dict | None]:
    """What is `known` of domains, all asked for together: a daemon that hangs is waited for once."""
    return dict(zip(domains, await asyncio.gather(*map(known, domains)), strict=True))


@dataclasses.dataclass(frozen=True)
class Look:
    """How to look: as whom, who knows the mail servers, and who connects to them."""

    caller: Caller
    directory: Directory = dataclasses.field(default_factory=Directory)
    connector: Connector = dataclasses.field(default_factory=Connector)
    smtp_port: int = PORT

    async def at(self, domain: str) -> dict:
        """All that can be found out about `domain`, for JSON.

        ``error`` says why it has no mail servers, ``is_final`` whether that is the domain's will; ``dane`` and
        ``mta_sts`` are None where it has none, and ``problems`` what could not be found out about them.
        """
        facts = {"domain": domain, "known": await known(domain), "error": "", "is_final": False, "dane": None}
        facts |= {"mta_sts": None, "problems": [], "servers": []}
        try:
            servers, dane, policy = await asyncio.gather(
                self.directory.look_up(domain),
                socketmap.ask(*self.directory.dns, "dane", domain),
                self.directory.policy(domain),
                return_exceptions=True,
            )
            if isinstance(servers, BaseException):
                raise servers
        except (Undeliverable, NotNow) as error:
            return facts | {"error": str(error), "is_final": isinstance(error, Undeliverable)}
        if isinstance(dane, OSError) or dane.startswith("TEMP"):
            facts["problems"].append(f"DANE: {dane}")
        elif dane.startswith("OK"):
            facts["dane"] = dane.removeprefix("OK ")
        if isinstance(policy, NotNow):
            facts["problems"].append(str(policy))
            policy = None
        facts["mta_sts"] = policy
        facts["servers"] = await asyncio.gather(*(self._server(server, domain, facts) for server in servers))
        return facts

    async def _server(self, server: Server, domain: str, facts: dict) -> dict:
        # Postfix compares the keys with signed records.
        smtp_server = dataclasses.replace(server, verified=server.verified and not facts["dane"])
        smtp, https = await asyncio.gather(
            self._smtp(smtp_server, f"postmaster@{domain}"),
            self._https(server),
        )
        return {
            "name": server.name,
            "addresses": [str(address) for address in server.addresses],
            "is_allowed": is_allowed(server, facts["mta_sts"]),
            "smtp": dataclasses.asdict(smtp),
            "https": https,
        }

    async def _smtp(self, server: Server, recipient: str) -> Trial:
        try:
            async with asyncio.timeout(TRIAL_S):
                return await trial(server, self.connector.context(server), self.caller, recipient, self.smtp_port)
        except TimeoutError:
            return Trial("greeting", f"it has not come to an end within {TRIAL_S} s")

    async def _https(self, server: Server) -> dict:
        """Whether the server is a relay, as far as one sees without a message, or why not."""
        try:
            async with asyncio.timeout(TRIAL_S):
                connection = await self.connector.connect(server)
                try:
                    status = await connection.status(introduction(server))
                finally:
                    connection.abort()
        except TimeoutError:
            said = f"no answer within {TRIAL_S} s"
        except (NotNow, OSError, h11.RemoteProtocolError) as error:
            said = str(error)
        else:
            return {"is_relay": status == OF_A_RELAY, "connects": True, "said": f"HTTP status {status}"}
        return {"is_relay": False, "connects": False, "said": said}


def domain(text: str) -> str:
    """A domain or literal of the command line."""
    if not is_domain(text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is not what stands after the @ of an address")
    return text.lower()


async def _print(arguments: argparse.Namespace) -> None:
    if arguments.command == "known":
        facts = await all_known(arguments.domain)
    else:
        facts = await Look(Caller(arguments.greeting, arguments.sender)).at(arguments.domain)
    print(json.dumps(facts))


def main() -> None:
    """Run the command."""
    command_line = service.parser("Say by which ways a domain is reached from this relay.")
    commands = command_line.add_subparsers(dest="command", required=True)
    known_to = commands.add_parser("known", help="what chatmail-transport knows of domains, without a look")
    known_to.add_argument("domain", nargs="+")
    look = commands.add_parser("look", help="connect to its mail servers")
    look.add_argument("domain", type=domain)
    look.add_argument("greeting", help="the name of this host, as it says in EHLO")
    look.add_argument("sender", help="an address of this relay, for MAIL FROM")
    asyncio.run(_print(command_line.parse_args()))


if __name__ == "__main__":
    main()
