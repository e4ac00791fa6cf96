"""The page /metrics."""

NAMES = ["ci-123456@x", "ac_123456", "qweqwe", "ci-abcdef"]
EXPECTED = {"accounts": 4, "ci_accounts": 3, "nonci_accounts": 1}


def test_accounts_are_directories_with_cur(tmp_path, run_service):
    for name in NAMES:
        (tmp_path / name / "cur").mkdir(parents=True)
    (tmp_path / "without").mkdir()
    (tmp_path / "file").touch()
    result = run_service("chatmaild.metrics", tmp_path)
    lines = result.stdout.splitlines()
    assert [line for line in lines if line[0] != "#"] == [f"{name} {value}" for name, value in EXPECTED.items()]
    for name, help_line, type_line in zip(EXPECTED, lines[::3], lines[1::3], strict=True):
        assert help_line.startswith(f"# HELP {name} ")
        assert type_line == f"# TYPE {name} gauge"
    written = tmp_path / "metrics"
    assert run_service("chatmaild.metrics", tmp_path, written).stdout == ""
    assert written.read_text() == result.stdout


def test_an_unreadable_directory_leaves_the_old_page(tmp_path, run_service):
    page = tmp_path / "page"
    page.write_text("old")
    result = run_service("chatmaild.metrics", tmp_path / "missing", page)
    assert result.returncode == 1
    assert "missing" in result.stderr
    assert page.read_text() == "old"
