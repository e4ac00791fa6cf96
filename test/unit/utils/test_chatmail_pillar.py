"""What is wrong with a pillar's files is one line, with the file and the line in it."""

import pytest

import chatmail_pillar

TOP = "base:\n  relay:\n    - relay\n"
SETTINGS = "chatmail:\n  mail_domain: chat.example.org\n"


@pytest.fixture
def pillar(tmp_path):
    (tmp_path / "top.sls").write_text(TOP)
    (tmp_path / "relay.sls").write_text(SETTINGS)
    return tmp_path


def told(pillar, target="relay") -> str:
    (line,) = chatmail_pillar.problems([str(pillar)], target)
    assert "\n" not in line
    return line.removeprefix(f"{pillar}/")


def test_what_is_right_has_no_problem(pillar):
    assert chatmail_pillar.problems([str(pillar)], "relay") == []


def test_a_missing_top_file_is_told_with_its_text(pillar):
    (pillar / "top.sls").unlink()
    assert told(pillar).startswith("top.sls does not exist;")
    assert told(pillar).endswith("Its text, where relay.sls has them: {base: {'relay': [relay]}}")


def test_a_file_that_is_not_there_is_named_with_the_line_that_names_it(pillar):
    (pillar / "top.sls").write_text("base:\n  relay:\n    - relais\n")
    assert told(pillar) == f"top.sls, line 3: there is no {pillar}/relais.sls."


def test_a_target_that_the_top_file_does_not_name_is_told(pillar):
    assert told(pillar, "other") == "top.sls has no settings for other; it names relay."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chatmail:\n\tmail_domain: x\n", "relay.sls, line 2: it is indented by a tab; YAML takes spaces."),
        ("chatmail:\n  a: [1\n", "relay.sls, line 3: "),
        ("chatmail:\n a: 1\n  b: 2\n", "relay.sls, line 3: mapping values are not allowed"),
        ("chatmail: \x00", "relay.sls: "),
    ],
)
def test_yaml_that_cannot_be_read_is_told_by_line(pillar, text, said):
    (pillar / "relay.sls").write_text(text)
    assert told(pillar).startswith(said)


def test_a_broken_top_file_is_told_by_line(pillar):
    (pillar / "top.sls").write_text("base:\n\trelay: [relay]\n")
    assert told(pillar) == "top.sls, line 2: it is indented by a tab; YAML takes spaces."
    (pillar / "top.sls").write_text("relay: [relay]\n")
    assert told(pillar).startswith("top.sls: `base:` is missing")


@pytest.mark.parametrize("files", ["relay", "5", "{relay: x}"])
def test_files_that_are_no_list_are_one_problem(pillar, files):
    (pillar / "top.sls").write_text(f"base:\n  relay: {files}\n")
    assert told(pillar).startswith("top.sls: `relay:` has no list; each of its files is a line below it")


@pytest.mark.parametrize("match", ["other or relay", "L@other,relay"])
def test_compound_matches_are_salts(pillar, match):
    (pillar / "top.sls").write_text(f"base:\n  '{match}':\n    - relay\n")
    assert chatmail_pillar.problems([str(pillar)], "relay") == []


def test_folders_globs_and_jinja_are_salts(pillar):
    (pillar / "top.sls").write_text("base:\n  'rel*':\n    - eu.relay\n    - shared\n")
    (pillar / "eu").mkdir()
    (pillar / "eu/relay.sls").write_text("{% set a = 1 %}\n\tx: {{ a }}\n")
    (pillar / "shared").mkdir()
    (pillar / "shared/init.sls").write_text(SETTINGS)
    assert chatmail_pillar.problems([str(pillar)], "relay") == []
    (pillar / "top.sls").write_text("base:\n  'G@os:Debian':\n    - match: compound\n    - gone\n")
    assert chatmail_pillar.problems([str(pillar)], "relay") == []
