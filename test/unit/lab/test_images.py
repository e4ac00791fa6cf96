from dataclasses import replace
from datetime import date, timedelta

import pytest

from test.lab import images
from test.lab.images import digest

BARE, RELAY = images.BARE["bookworm"], images.RELAY["bookworm"]
MONDAY = date(2026, 1, 5)
SOURCES = ["deb http://mirror.example/debian bookworm main"]


def test_an_image_is_made_anew_when_its_recipe_changes():
    first = digest(BARE, SOURCES, MONDAY)
    assert digest(BARE, list(SOURCES), MONDAY) == first
    assert digest(replace(BARE, packages=(*BARE.packages, "knot")), SOURCES, MONDAY) != first
    assert digest(replace(BARE, revision=BARE.revision + 1), SOURCES, MONDAY) != first
    assert digest(images.BARE["trixie"], SOURCES, MONDAY) != first
    assert digest(BARE, [*SOURCES, "deb http://mirror.example/debian bookworm-updates main"], MONDAY) != first


@pytest.mark.parametrize(("days", "made_again"), [(6, False), (7, True)])
def test_a_layer_of_packages_is_made_anew_each_week_and_a_bare_image_is_not(days, made_again):
    later = MONDAY + timedelta(days=days)
    assert (digest(RELAY, SOURCES, later) != digest(RELAY, SOURCES, MONDAY)) == made_again
    assert digest(BARE, SOURCES, later) == digest(BARE, SOURCES, MONDAY)


def test_a_layer_is_made_anew_when_what_is_below_changes():
    changed = replace(RELAY, base=replace(BARE, packages=(*BARE.packages, "knot")))
    assert digest(changed, SOURCES, MONDAY) != digest(RELAY, SOURCES, MONDAY)


def test_links_that_enable_units_are_put_aside_and_the_units_stay(tmp_path):
    wants = tmp_path / images.UNITS / "multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "nginx.service").symlink_to("/lib/systemd/system/nginx.service")
    (wants.parent / "own.service").write_text("[Service]\n")
    images.put_aside_enabled(tmp_path)
    assert [path.name for path in (tmp_path / images.UNITS).rglob("*.service")] == ["own.service"]
    aside = tmp_path / images.ENABLED / "multi-user.target.wants/nginx.service"
    assert str(aside.readlink()) == "/lib/systemd/system/nginx.service"
