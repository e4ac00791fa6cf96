"""Salt's own loader finds every module and state of ours, and each function has what an operator needs to call it."""

import importlib
import inspect
import re
import sys

import pytest
import salt.loader
import salt.output

from test.salt.minion import CHECKOUT

MODULES = sorted(path.stem for path in (CHECKOUT / "_modules").glob("*.py"))
UTILS = sorted(path.stem for path in (CHECKOUT / "_utils").glob("*.py"))
OUTPUTTERS = sorted(path.stem for path in (CHECKOUT / "_output").glob("*.py"))
STATES = sorted(path.stem for path in (CHECKOUT / "_states").glob("*.py"))


def functions(loader, module: str) -> dict:
    return {name: loader[name] for name in loader if name.startswith(f"{module}.")}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads_and_shows_how_each_function_is_called(loaders, module):
    found = functions(loaders.modules, module)
    assert found
    for name, function in found.items():
        assert "CLI Example:" in inspect.getdoc(function), name


@pytest.mark.parametrize("module", STATES)
def test_a_state_loads_and_shows_an_example(loaders, module):
    names = [name.partition(".")[2] for name in functions(loaders.states, module)]
    assert names
    # The loader of the tests wraps states, and its wrappers have no docstring.
    source = importlib.import_module(f"_states.{module}")
    for name in names:
        if name not in ("mod_watch", "mod_init"):
            assert ".. code-block:: yaml" in inspect.getdoc(getattr(source, name)), name


def test_outputters_load_and_are_those_that_functions_name(loaders):
    assert set(OUTPUTTERS) <= set(salt.loader.outputters(loaders.opts))
    ours = [function for module in MODULES for function in functions(loaders.modules, module).values()]
    assert {getattr(function, "__outputter__", "nested") for function in ours} == {"nested", *OUTPUTTERS}


def test_states_are_told_by_our_outputter_also_where_nothing_but_salt_is_installed(loaders, monkeypatch):
    def state(number, result, changes, comment):
        return {"__run_num__": number, "result": result, "changes": changes, "comment": comment, "duration": 10.0}

    states = {f"test_|-s{number}_|-s{number}_|-nop": state(number, True, {}, "fine") for number in range(100)}
    states["file_|-nginx-conf_|-/etc/x_|-managed"] = state(100, False, {}, "no such file")
    states["file_|-more_|-/etc/x_|-managed"] = state(101, False, {}, "One or more requisite failed: nginx-conf")
    told = salt.output.out_format({"relay": states}, "highstate", {**loaders.opts, "color": False}).splitlines()
    assert [line.strip() for line in told] == [
        "✗ relay  100 succeeded, 0 changed, 2 failed, 1.0 s",
        ": nginx-conf (file.managed)",
        "no such file",
        "1 more were not run, because they require what failed.",
    ]
    monkeypatch.setitem(sys.modules, "rich.console", None)
    told = salt.output.out_format({"relay": states}, "highstate", {**loaders.opts, "color": False})
    assert "Summary for relay" in told


@pytest.mark.parametrize(
    ("stderr", "stdout", "told"),
    [
        (
            "Error running 'chatmail_account.nocreate': on is 7; allowed is True or False, or nothing",
            "",
            "relay: ✗ on is 7; allowed is True or False, or nothing",
        ),
        ("Traceback (most recent call last):\n  File x\nOSError: no room", "", "relay: ✗ OSError: no room"),
        ("Error: \x1b]0;title\x07\x1b[2Jno", "", "relay: ✗ Error: ?]0;title\x07?[2Jno"),
        ("", "The authenticity of host '192.0.2.1' can't be established.", "relay: ✗ the host's key is not known here"),
    ],
)
def test_a_call_that_failed_is_told_in_one_line(loaders, stderr, stdout, told):
    failed = {"stdout": stdout, "stderr": stderr, "retcode": 1, "parsed": None, "_error": "non-zero"}
    options = {**loaders.opts, "color": False}
    (line,) = salt.output.out_format({"relay": failed}, "nested", options).splitlines()
    assert line.startswith(told)
    lines = salt.output.out_format({"relay": failed, "other": {"retcode": 0, "a": 1}}, "nested", options).splitlines()
    assert lines[0].startswith(told)
    assert lines[1:3] == ["other:", "    ----------"]


def test_no_util_has_the_name_of_another_extension():
    """Salt puts the folders of all of them on Python's path while it loads one, so `import NAME` must mean one file."""
    others = {path.stem for kind in ("modules", "states", "wrapper") for path in (CHECKOUT / f"_{kind}").glob("*.py")}
    assert UTILS
    assert others.isdisjoint(UTILS)


# chatmail_host is who injects it, on a host without Salt.
@pytest.mark.parametrize("util", [util for util in UTILS if util != "chatmail_host"])
def test_a_util_depends_on_nothing_that_salts_loader_injects(util):
    injected = re.findall(
        r"__(?:salt|opts|grains|pillar|context|utils)__", (CHECKOUT / f"_utils/{util}.py").read_text()
    )
    assert injected == []
