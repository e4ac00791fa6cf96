"""What status looks for is what the states bring."""

import json

import pytest

from chatmail_services import SOCKETS, UNITS
from test.render.conftest import PILLARS
from test.unit.test_customs import FORMULA

# Started by others, or no part of the relay.
NOT_LOOKED_AT = {"systemd-journald.service"}


def unit_name(name: str) -> str:
    return name if name.endswith((".timer", ".socket", ".path")) else f"{name}.service"


@pytest.mark.parametrize("pillar", sorted(PILLARS))
def test_every_service_of_the_states_is_looked_at_and_no_other(pillar, renderer):
    given = renderer.pillar(PILLARS[pillar])
    settings = renderer.settings(given)
    started = {
        unit_name(chunk["name"])
        for chunk in renderer.low(given)
        if (chunk["state"], chunk["fun"]) == ("chatmail_service", "running")
    }
    wanted = {unit.name for unit in UNITS if unit.is_wanted(settings)}
    assert wanted == started - NOT_LOOKED_AT


def test_every_socket_is_one_of_a_unit_that_is_looked_at():
    owners = {unit.replace(".socket", ".service") for unit in SOCKETS.values()}
    assert owners <= {unit.name for unit in UNITS}


def test_the_last_apply_is_known_by_its_version(renderer):
    (chunk,) = (one for one in renderer.low({"mail_domain": "chat.test"}) if one["__id__"] == "preflight-settings")
    assert json.loads(chunk["contents"])["version"] == FORMULA["version"]
