"""A password for the backup is there, and root's alone; else it is said how to make one."""

import pytest

from _states import chatmail_backup


def test_a_password_that_only_root_reads_is_well(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret")
    path.chmod(0o600)
    found = chatmail_backup.password_there(str(path))
    assert found["result"] is True
    assert found["changes"] == {}


@pytest.mark.parametrize(
    "content, mode, said", [(None, 0, "openssl rand"), ("", 0o600, "or empty"), ("secret", 0o644, "chmod 0600")]
)
def test_what_is_missing_is_told_with_what_to_do(tmp_path, content, mode, said):
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    found = chatmail_backup.password_there(str(path))
    assert found["result"] is False
    assert said in found["comment"]
    assert "secret" not in found["comment"]
