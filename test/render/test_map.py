"""map.jinja gives the states what the schema makes of the pillar."""

import pytest
import yaml

import chatmail_schema
from test.render.conftest import PILLARS
from test.salt.minion import CHECKOUT

SCHEMA = yaml.safe_load((CHECKOUT / "chatmail/defaults.yaml").read_text())


@pytest.mark.parametrize("name", sorted(PILLARS))
def test_states_see_the_settings_of_the_schema(renderer, name):
    pillar = renderer.pillar(PILLARS[name])
    assert renderer.settings(pillar) == chatmail_schema.effective(SCHEMA, pillar)
