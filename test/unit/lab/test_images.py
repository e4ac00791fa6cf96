from dataclasses import replace

from test.lab import images
from test.lab.images import digest

BARE = images.BARE["bookworm"]
SOURCES = ["deb http://mirror.example/debian bookworm main"]


def test_an_image_is_made_anew_when_its_recipe_changes():
    first = digest(BARE, SOURCES)
    assert digest(BARE, list(SOURCES)) == first
    assert digest(replace(BARE, packages=(*BARE.packages, "knot")), SOURCES) != first
    assert digest(replace(BARE, revision=BARE.revision + 1), SOURCES) != first
    assert digest(images.BARE["trixie"], SOURCES) != first
    assert digest(BARE, [*SOURCES, "deb http://mirror.example/debian bookworm-updates main"]) != first
