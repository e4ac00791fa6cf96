"""Each service of a relay is in a sandbox, ours and Debian's, as tight as it can work in (systemd-analyze(1))."""

import json

from chatmail_services import wanted_units
from test.lab import Host

ON_BOTH_RELEASES = True
# Of 10. What the clock starts is measured without a host, in test/render.
EXPOSURE_MAX = 1.0
# Some of Debian's become other users, or listen on ports below 1024.
DEBIANS_EXPOSURE_MAX = 5.0
DEBIANS = (
    *("coturn.service", "dovecot.service", "mtail.service", "nginx.service", "opendkim.service", "postfix.service"),
    *("postfix@-.service", "postfix-mta-sts-resolver.service", "unbound.service"),
)


def too_exposed(host: Host) -> dict[str, float]:
    """The exposure of the services that the host's settings want, where it is above its limit."""
    settings = json.loads(host.read("/etc/chatmail/relay.json"))["settings"]
    found = json.loads(host.run(["systemd-analyze", "security", "--json=short"]).stdout)
    exposures = {entry["unit"]: float(entry["exposure"]) for entry in found}
    wanted = [unit.name for unit in wanted_units(settings) if unit.name.endswith(".service")]
    limits = {name: DEBIANS_EXPOSURE_MAX if name in DEBIANS else EXPOSURE_MAX for name in wanted}
    return {name: exposures[name] for name, limit in limits.items() if exposures[name] > limit}


def test_no_service_is_more_exposed_than_it_must_be(one_host):
    assert too_exposed(one_host) == {}
