"""States rendered by Salt itself, without running any."""

import copy
import functools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import pytest
import salt.loader
import salt.state
import salt.utils.yaml
from salt.utils.jinja import SerializerExtension
from salt.utils.templates import render_jinja_tmpl

from test.salt.minion import CHECKOUT, configuration

PILLARS = {path.stem: path for path in [CHECKOUT / "pillar.example", *(CHECKOUT / "test/salt/pillar").glob("*.sls")]}
COMPONENTS = sorted(path.parent.name for path in (CHECKOUT / "chatmail").glob("*/init.sls"))


# Salt tells of every file that it looks for, and pytest would keep it all.
logging.getLogger("salt").setLevel(logging.WARNING)


class Renderer:
    """Renders SLS files for one pillar after the other; starting Salt's loaders again each time would take seconds."""

    def __init__(self, scratch: Path):
        options = configuration(scratch)
        options["grains"] = salt.loader.grains(options)
        self._highstate = salt.state.HighState(options, pillar_override={"chatmail": None})
        self._highstate.push_active()
        self.functions = self._highstate.state.functions
        self.states = self._highstate.state.states
        self._low: dict[tuple[str, str], list[dict]] = {}
        self._settings: dict[str, str] = {}

    def template(self, text: str, **context) -> str:
        """Render Jinja as Salt does for SLS files and managed templates: what is not defined is an error."""
        options = self._highstate.opts
        names = {
            "opts": options,
            "saltenv": "base",
            "salt": self.functions,
            "grains": options["grains"],
            "pillar": {},
            # Without, each template would have one of its own, with loaders of its own.
            "fileclient": self._highstate.client,
        }
        return render_jinja_tmpl(text, names | context)

    def pillar(self, path: Path) -> dict:
        """Load a pillar file; its mapping below ``chatmail``."""
        return salt.utils.yaml.safe_load(self.template(path.read_text()))["chatmail"]

    def settings(self, pillar: object) -> dict:
        """What map.jinja makes of the value of the pillar's ``chatmail`` key."""
        text = '{% from "chatmail/map.jinja" import settings with context %}{{ settings | json }}'
        if (key := repr(pillar)) not in self._settings:
            self._settings[key] = self.template(text, pillar={"chatmail": pillar})
        return json.loads(self._settings[key])

    def low(self, pillar: object, sls: str = "chatmail") -> list[dict]:
        """
        Compile the states of an SLS for the value of the pillar's ``chatmail`` key.

        Returns Salt's low data: each state with its arguments, in the order of execution. Fails with Salt's own
        messages if there are any. All components take seconds, so what was compiled is kept.
        """
        key = (repr(pillar), sls)
        if key not in self._low:
            self._low[key] = self._compile(pillar, sls)
        return self._low[key]

    def _compile(self, pillar: object, sls: str) -> list[dict]:
        state = self._highstate.state
        state.opts["pillar"]["chatmail"] = pillar
        self._highstate.building_highstate.clear()
        high, errors = self._highstate.render_highstate({"base": [sls]})
        errors += state.verify_high(high)
        high, extended = state.reconcile_extend(high)
        high, required = state.requisite_in(high)
        assert errors + extended + required == []
        chunks, errors = state.compile_high_data(high)
        assert errors == []
        return chunks


def _once(method: Callable) -> Callable:
    """Have a method keep what it returns for arguments, whatever its object; each caller gets a copy."""
    results = {}

    @functools.wraps(method)
    def kept(self, *arguments):
        if arguments not in results:
            results[arguments] = method(self, *arguments)
        return copy.deepcopy(results[arguments])

    return kept


@pytest.fixture(scope="session")
def renderer(tmp_path_factory) -> Iterator[Renderer]:
    # Each of the 22 SLS files reads map.jinja and the schema, and for each Salt makes an environment that knows nothing
    # of the last one: two thirds of what compiling takes.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", _once(jinja2.Environment.compile))
        patch.setattr(SerializerExtension, "load_yaml", _once(SerializerExtension.load_yaml))
        yield Renderer(tmp_path_factory.mktemp("minion"))
