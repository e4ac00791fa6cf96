"""map.jinja gives the states what the schema makes of the pillar."""

import pytest
import yaml

import chatmail_schema
from test.render.conftest import PILLARS
from test.salt.minion import CHECKOUT

RELEASES = yaml.safe_load((CHECKOUT / "chatmail/releases.yaml").read_text())
SCHEMA = yaml.safe_load((CHECKOUT / "chatmail/defaults.yaml").read_text())


@pytest.mark.parametrize("name", sorted(PILLARS))
def test_states_see_the_settings_of_the_schema(renderer, name):
    pillar = renderer.pillar(PILLARS[name])
    settings = renderer.settings(pillar)
    del settings["release"]
    assert settings == chatmail_schema.effective(SCHEMA, pillar)


@pytest.mark.parametrize(("found", "chosen"), [(12, 12), (13, 13), (11, 12), (None, 12)])
def test_states_see_what_is_peculiar_to_the_release(renderer, found, chosen):
    """A release that the preflight refuses must not keep it from rendering."""
    text = '{% from "chatmail/map.jinja" import settings with context %}{{ settings.release | json }}'
    grains = {"osmajorrelease": found} if found else {}
    assert yaml.safe_load(renderer.template(text, pillar={"chatmail": {}}, grains=grains)) == RELEASES[chosen]
