"""Name servers of a whole tree, from the root down to the relay's zone."""

import functools

import pytest

from chatmail_survey import Survey
from test.support.dns_servers import NameServer, on_one_port
from test.support.zones import DS, NAME_SERVERS, WANTED


@pytest.fixture
def serve():
    """
    Run a root server, one of ``org`` and two of ``example.org``, in which the relay's name is no zone of its own.

    Takes the text of the relay's records, for the second server too unless it has another; returns what ``check``
    returns, of as many checks as are wanted a list.
    """
    servers = []

    def run(
        text, second=None, *, faults=("", ""), wanted=WANTED, other_zones=None, signed=(), times=None, initial=False
    ):
        root = "@ NS root.\nroot. A 127.0.0.2\norg. NS ns.org.\nns.org. A 127.0.0.3\n"
        root += DS.format("org.") if "org." in signed else ""
        org = "@ NS ns.org.\nns.org. A 127.0.0.3\nexample.org. NS ns1.example.org.\nexample.org. NS ns2.example.org.\n"
        org += "ns1.example.org. A 127.0.0.4\nns2.example.org. A 127.0.0.5\n"
        org += DS.format("example.org.") if "example.org." in signed else ""
        zones = [{".": root}, {"org.": org + "relays.org. NS ns.relays.org.\nns.relays.org. A 127.0.0.4\n"}]
        zones += [
            {"example.org.": NAME_SERVERS + one, **(other_zones or {})}
            for one in (text, text if second is None else second)
        ]
        port, started = on_one_port(
            *(
                functools.partial(NameServer, f"127.0.0.{number}", zones=of_server, fault=fault)
                for number, (of_server, fault) in enumerate(zip(zones, ("", "", *faults), strict=True), 2)
            )
        )
        servers.extend(started)
        surveys = [Survey(wanted, ["127.0.0.2"], port=port, seconds=20) for _ in range(times or 1)]
        results = [survey.as_result(initial=initial) for survey in surveys]
        return results if times else results[0]

    yield run
    for server in servers:
        server.close()
