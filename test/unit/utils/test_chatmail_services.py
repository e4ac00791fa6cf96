"""Which units a relay wants; what our own programs say."""

import subprocess

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_services
from chatmail_services import MAIL_UNITS, POSTFIX_UNITS, ask, unit_of, wanted_units
from test.support.relays import SETTINGS


@pytest.mark.parametrize("unit", ["postfix@-", "postfix"])
def test_the_release_decides_which_unit_is_postfix(unit):
    settings = SETTINGS | {"release": {"postfix_unit": unit}}
    wanted = {one.name for one in wanted_units(settings)}
    assert wanted & set(POSTFIX_UNITS) == {f"{unit}.service"}
    assert unit_of("postfix", settings) == f"{unit}.service"


def test_a_relay_without_mail_wants_neither_postfix_nor_dovecot():
    off = {unit.name for unit in wanted_units(SETTINGS | {"disable_mail": True})}
    assert off.isdisjoint(MAIL_UNITS)
    assert "nginx.service" in off


@pytest.fixture
def program(monkeypatch):
    """Have a program of chatmaild's end so, in place of being run: exit code, output, errors."""

    def end(code: int = 0, out: str = "", errors: str = "") -> dict:
        options = {}

        def run(argv, **given):
            options.update(given, argv=argv)
            if code is None:
                raise subprocess.TimeoutExpired(argv, given["timeout"])
            return subprocess.CompletedProcess(argv, code, out, errors)

        monkeypatch.setattr(chatmail_services.subprocess, "run", run)
        return options

    return end


def test_our_programs_run_as_their_user_with_the_source_of_the_relay_alone(program):
    options = program(out='{"a": 1}')
    assert ask("reach", "known", "a.test", user="nobody", group="nogroup") == {"a": 1}
    assert options["argv"] == ["/usr/bin/python3", "-P", "-m", "chatmaild.reach", "known", "a.test"]
    assert (options["user"], options["group"], options["extra_groups"]) == ("nobody", "nogroup", [])
    assert options["cwd"] == "/"


@pytest.mark.parametrize(
    ("code", "errors", "said"),
    [
        (1, "Traceback\n\nValueError: no such thing\n", "^ValueError: no such thing$"),
        (1, "", "chatmaild.reach failed"),
        (None, "", "does not end within"),
    ],
)
def test_what_is_wrong_with_our_programs_is_told_in_a_line(program, code, errors, said):
    program(code, errors=errors)
    with pytest.raises(CommandExecutionError, match=said):
        ask("reach", user="nobody", group="nogroup")
