"""What an upgrade replaces is kept as it was, comes back as it was, and of the last three upgrades alone."""

import os
from pathlib import Path

import pytest

import chatmail_kept


@pytest.fixture
def etc(tmp_path, monkeypatch) -> Path:
    """Where the formula puts files."""
    directory = tmp_path / "etc"
    directory.mkdir()
    monkeypatch.setattr(chatmail_kept, "PLACES", (str(directory),))
    monkeypatch.setattr(chatmail_kept, "ROOT", tmp_path / "kept")
    return directory


def keep(etc: Path, *names: str, **notes) -> chatmail_kept.Upgrade:
    return chatmail_kept.keep([str(etc / name) for name in names], notes)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_files_directories_and_links_come_back_with_modes_and_new_ones_go(etc):
    write(etc / "main.cf", "old")
    (etc / "main.cf").chmod(0o640)
    write(etc / "source/old.py", "old")
    write(etc / ".pages-1/index.html", "old")
    (etc / "pages").symlink_to(".pages-1")
    names = ["main.cf", "source", "pages", "new.conf", "same"]
    write(etc / "same", "same")
    before = {name: chatmail_kept.look(etc / name) for name in [*names, ".pages-1"]}
    upgrade = keep(etc, *names)
    (etc / "main.cf").unlink()
    write(etc / "main.cf", "new")
    write(etc / "source/new.py", "new")
    (etc / "source/old.py").unlink()
    write(etc / "new.conf", "new")
    (etc / "pages").unlink()
    (etc / ".pages-1/index.html").unlink()
    (etc / ".pages-1").rmdir()
    (etc / "pages").symlink_to(".pages-2")
    assert set(chatmail_kept.changed_paths(upgrade)) == {str(etc / name) for name in names[:-1]}
    chatmail_kept.put_back(upgrade)
    assert {name: chatmail_kept.look(etc / name) for name in before} == before
    assert chatmail_kept.changed_paths(upgrade) == []


def test_what_is_kept_is_for_root_alone(etc):
    write(etc / "secret", "secret")
    upgrade = keep(etc, "secret")
    for path in (upgrade.directory.parent, upgrade.directory, *upgrade.directory.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_nothing_elsewhere_is_kept_or_put_back(etc, tmp_path):
    write(tmp_path / "mail", "message")
    upgrade = chatmail_kept.keep([str(tmp_path / "mail"), f"{etc}/../mail", str(etc)], {})
    assert upgrade.before["paths"] == {}


def test_a_link_that_leads_in_a_circle_comes_back_as_it_was(etc):
    (etc / "one").symlink_to("two")
    (etc / "two").symlink_to("one")
    upgrade = keep(etc, "one")
    (etc / "one").unlink()
    chatmail_kept.put_back(upgrade)
    assert (etc / "one").readlink() == Path("two")


def test_of_a_finished_upgrade_only_what_it_has_changed_is_put_back(etc):
    write(etc / "KeyTable", "one")
    write(etc / "main.cf", "old")
    upgrade = keep(etc, "KeyTable", "main.cf")
    write(etc / "main.cf", "new")
    chatmail_kept.finish(upgrade, {})
    write(etc / "KeyTable", "rotated since")
    assert chatmail_kept.changed_paths(upgrade) == [str(etc / "main.cf")]
    chatmail_kept.put_back(upgrade)
    assert [(etc / name).read_text() for name in ("main.cf", "KeyTable")] == ["old", "rotated since"]


def test_the_last_three_are_kept(etc):
    for _ in range(5):
        chatmail_kept.finish(keep(etc), {})
    assert [one.number for one in chatmail_kept.upgrades()] == [3, 4, 5]


def test_the_upgrade_after_a_killed_one_has_the_same_before(etc):
    write(etc / "main.cf", "old")
    write(etc / "more.cf", "old")
    killed = keep(etc, "main.cf", findings=["of before"])
    write(etc / "main.cf", "half")
    again = keep(etc, "main.cf", "more.cf", findings=["of the broken relay"])
    write(etc / "more.cf", "new")
    assert (again.number, again.before["findings"]) == (killed.number, ["of before"])
    chatmail_kept.put_back(again)
    assert [(etc / name).read_text() for name in ("main.cf", "more.cf")] == ["old", "old"]


def test_one_that_was_killed_while_it_kept_has_no_number(etc, monkeypatch):
    write(etc / "main.cf", "old")

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        keep(etc, "main.cf")
    monkeypatch.undo()
    assert chatmail_kept.upgrades(etc.parent / "kept") == []
    monkeypatch.setattr(chatmail_kept, "PLACES", (str(etc),))
    assert chatmail_kept.keep([str(etc / "main.cf")], {}, etc.parent / "kept").number == 1


def test_one_that_is_forgotten_is_gone(etc):
    chatmail_kept.finish(keep(etc), {})
    chatmail_kept.forget(keep(etc))
    assert [one.number for one in chatmail_kept.upgrades()] == [1]
    assert [path.name for path in chatmail_kept.ROOT.iterdir()] == ["1"]
