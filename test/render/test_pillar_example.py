"""pillar.example names every setting, in the schema's order, with its default and what it does."""

import re

import yaml

from test.salt.minion import CHECKOUT

SCHEMA = yaml.safe_load((CHECKOUT / "chatmail/defaults.yaml").read_text())
EXAMPLE = (CHECKOUT / "pillar.example").read_text()


def test_every_setting_is_there_with_its_default_or_an_example():
    settings = yaml.safe_load(re.sub(r"(?m)^  #(?=\w+: )", "  ", EXAMPLE))["chatmail"]
    expected = {key: spec.get("example", spec["default"]) for key, spec in SCHEMA.items()}
    assert list(settings.items()) == list(expected.items())


def test_only_what_must_be_set_is_set():
    settings = yaml.safe_load(EXAMPLE)["chatmail"]
    assert list(settings) == [key for key, spec in SCHEMA.items() if spec.get("required")]


def test_every_setting_is_explained_in_the_words_of_the_schema():
    comments = {}
    for block in re.findall(r"((?:^  # .*\n)+)^  #?(\w+):", EXAMPLE, flags=re.M):
        comments[block[1]] = " ".join(line.removeprefix("  # ") for line in block[0].splitlines())
    assert comments == {key: spec["doc"] for key, spec in SCHEMA.items()}


def test_units_are_named():
    for key, spec in SCHEMA.items():
        if "unit" in spec and spec["type"] != "size":
            assert re.search(rf"(?m)^  #?{key}: \S+  # {re.escape(spec['unit'])}$", EXAMPLE), key
