"""chatmaild.files: readers see the old file or the new one."""

import stat

import pytest

from chatmaild import files


def test_a_file_is_replaced_as_a_whole_with_its_permissions(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(b"old")
    reader = path.open("rb")
    files.replace(path, b"new", 0o644)
    with reader:
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    files.replace(path, b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["page"]


def test_what_cannot_be_replaced_stays_and_nothing_is_left_behind(tmp_path):
    (tmp_path / "page").mkdir()
    with pytest.raises(IsADirectoryError):
        files.replace(tmp_path / "page", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["page"]
    with pytest.raises(FileNotFoundError):
        files.replace(tmp_path / "missing" / "page", b"new")
