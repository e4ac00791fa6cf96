"""Which units a relay wants."""

import pytest

from chatmail_services import MAIL_UNITS, POSTFIX_UNITS, unit_of, wanted_units
from test.support.relays import SETTINGS


@pytest.mark.parametrize("unit", ["postfix@-", "postfix"])
def test_the_release_decides_which_unit_is_postfix(unit):
    settings = SETTINGS | {"release": {"postfix_unit": unit}}
    wanted = {one.name for one in wanted_units(settings)}
    assert wanted & set(POSTFIX_UNITS) == {f"{unit}.service"}
    assert unit_of("postfix", settings) == f"{unit}.service"


def test_a_relay_without_mail_wants_neither_postfix_nor_dovecot():
    off = {unit.name for unit in wanted_units(SETTINGS | {"disable_mail": True})}
    assert off.isdisjoint(MAIL_UNITS)
    assert "nginx.service" in off
