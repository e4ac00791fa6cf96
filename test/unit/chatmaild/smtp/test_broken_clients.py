"""Clients send whatever they like to our daemons' sockets: the daemon stays up and answers the next one."""

import pytest

from test.unit.chatmaild.conftest import disturb

USER = "user12345@chat.example.org"


@pytest.mark.parametrize(
    "daemon, request_, answer",
    [
        ("doveauth", f'Lshared/passdb/secret-password"{USER}\n', "O{"),
        ("lastlogin", f"B1\t{USER}\nS1\tshared/last-login/{USER}\t1\nC1\n", "O\n"),
        ("metadata", f"B1\t{USER}\nS1\tpriv/12/devicetoken\t1111\nC1\nLpriv/12/devicetoken\t{USER}\n", "O\nO1111\n"),
        ("newemail", "POST /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "),
    ],
)
def test_the_next_client_is_answered(write_config, start_daemon, tmp_path, daemon, request_, answer):  # noqa: PLR0917
    (tmp_path / "mail").mkdir()
    running = start_daemon(f"chatmaild.{daemon}", write_config())
    disturb(running.connect)
    assert running.ask(request_.encode()).decode().startswith(answer)
    log = running.stop()
    assert "Traceback" not in "\n".join(log)
