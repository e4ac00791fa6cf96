"""A move to a new host (tools/migrate) knows what runs on a relay."""

from tools.migrate.units import UNITS

PILLARS = (
    {"mail_domain": "chat.example.org", "metrics_page": True, "echobot": True, "mtail_address": "127.0.0.1"},
    {"mail_domain": "chat.example.org", "operator_bot": True},
    {"mail_domain": "chat.example.org", "tls_external_cert_and_key": "/etc/ssl/own/cert /etc/ssl/own/key"},
)
# The old host itself needs these further on.
STAYS = {"unbound", "systemd-journald"}


def test_it_stops_all_that_an_apply_starts(renderer):
    started = {
        chunk["name"].removesuffix(".service")
        for pillar in PILLARS
        for chunk in renderer.low(pillar)
        if (chunk["state"], chunk["fun"]) == ("chatmail_service", "running")
    }
    assert started - STAYS - {unit.removesuffix(".service") for unit in UNITS} == set()
