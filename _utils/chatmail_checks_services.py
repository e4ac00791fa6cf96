"""
Checks of the services: they run with a configuration that they would take again, and listen where they should.
"""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chatmail_ports
from chatmail_checks import Check, Finding
from chatmail_services import CONFIGURATIONS, SOCKETS, run, short, unit_of, unit_states, wanted_units
from chatmail_words import one_line

STARTING_S = 2


def _words(unit):
    """What the unit's program said, its latest messages (list of text)."""
    argv = ["journalctl", f"--unit={unit}", "--lines=40", "--output=json", "--no-pager"]
    entries = map(json.loads, run(argv).stdout.splitlines())
    return [
        entry["MESSAGE"]
        for entry in entries
        if entry.get("SYSLOG_IDENTIFIER") != "systemd" and isinstance(entry.get("MESSAGE"), str)
    ]


def _last_words(unit):
    return one_line(["", *_words(unit)][-1])


def _wants_a_port(unit):
    """Whether the unit has failed because somebody else has its port, such as a web server beside ours."""
    return any("address already in use" in text.lower() for text in _words(unit))


def _configuration_problem(unit):
    """Why the unit would not take its configuration, or ``""``."""
    for argv in CONFIGURATIONS[unit]:
        done = run(argv)
        if done.returncode:
            said = (done.stderr or done.stdout).splitlines()
            # nginx warns of what it takes all the same; its last line says only that the test failed.
            lines = [line for line in said if line.strip() and "[warn]" not in line]
            return one_line(lines[0] if lines else f"{' '.join(argv)} fails")
    return ""


def _is_running(state):
    return state.get("ActiveState") in ("active", "reloading")


def _collect_services(relay):
    names = [unit.name for unit in wanted_units(relay.settings)]
    states = unit_states(names)
    if any(state.get("ActiveState") == "activating" for state in states.values()):
        # Just being started, or about to crash once more.
        time.sleep(STARTING_S)
        states = unit_states(names)
    with ThreadPoolExecutor(4) as pool:
        checked = [name for name in names if name in CONFIGURATIONS]
        configurations = dict(zip(checked, pool.map(_configuration_problem, checked), strict=True))
    listeners = chatmail_ports.listeners(list(relay.ports))
    conflicts = chatmail_ports.conflicts(listeners, relay.ports)
    down = [name for name in names if not _is_running(states.get(name, {}))]
    failed = run(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]).stdout
    return {
        "units": {name: states.get(name, {}) for name in names},
        "configurations": configurations,
        "conflicts": conflicts,
        "silent": sorted(
            (port for port in relay.ports if port not in {listener["port"] for listener in listeners}),
            key=lambda port: int(port.partition("/")[0]),
        ),
        "ports": {port: unit_of(daemons[0], relay.settings) for port, daemons in relay.ports.items()},
        "last_words": {
            name: _last_words(name) for name in down if states.get(name, {}).get("ActiveState") != "inactive"
        },
        "failed": {name: _wants_a_port(name) for name, *_ in map(str.split, failed.splitlines())},
    }


def _judge_unit(relay, unit, state, problem, said):
    """A finding about one unit, or None."""
    name = short(unit.name)
    start = f"systemctl restart {name}"
    if problem:
        component = {"postfix@-": "postfix"}.get(name, name)
        end = "does not run" if not _is_running(state) else "runs, but would not start again"
        return Finding(
            unit.level,
            "configuration-broken",
            f"{name} {end}: its configuration is broken: {problem}",
            f"fix that file, or replace it by ours: {relay.command(f'state.apply chatmail.{component}')}; then {start}",
            unit.name,
        )
    if _is_running(state):
        if state.get("UnitFileState") in ("disabled", "masked", "masked-runtime"):
            what = f"{name} runs, but does not start at the next boot"
            return Finding("warning", "not-at-boot", what, f"systemctl unmask {name}; systemctl enable {name}")
        return None
    if state.get("LoadState") == "not-found":
        return Finding(
            unit.level,
            "not-installed",
            f"{name} is not installed: {unit.effect}",
            relay.command("state.apply chatmail"),
            unit.name,
        )
    if state.get("LoadState") == "masked":
        return Finding(
            unit.level, "masked", f"{name} is masked: {unit.effect}", f"systemctl unmask {name}; {start}", unit.name
        )
    if state.get("ActiveState") in ("failed", "activating"):
        happened = "has failed" if state["ActiveState"] == "failed" else "crashes again and again"
        words = f" (it said: {said})" if said else ""
        return Finding(
            unit.level,
            "failed",
            f"{name} {happened}{words}: {unit.effect}",
            f"{start}; see journalctl -u {name} -n 30",
            unit.name,
        )
    enable = f"; systemctl enable {name}" if state.get("UnitFileState") == "disabled" else ""
    return Finding(unit.level, "stopped", f"{name} is stopped: {unit.effect}", start + enable, unit.name)


def _judge_services(facts, relay):
    found = []
    for one in facts["conflicts"]:
        unit = unit_of(one["daemon"], relay.settings)
        do = f"{one['remedy']}; then systemctl restart {short(unit)}"
        found.append(Finding("error", "port-taken", chatmail_ports.sentence(one), do, unit, data=one))
    explained = {finding.unit for finding in found}
    wanted = wanted_units(relay.settings)
    for unit in wanted:
        problem = facts["configurations"].get(unit.name, "")
        if unit.name not in explained:
            found.append(
                _judge_unit(relay, unit, facts["units"][unit.name], problem, facts["last_words"].get(unit.name, ""))
            )
    found = [finding for finding in found if finding]
    explained |= {finding.unit for finding in found}
    for port in facts["silent"]:
        owner = facts["ports"][port]
        if owner in facts["units"] and owner not in explained:
            what = f"{short(owner)} runs, but nothing listens on port {port}"
            found.append(Finding("error", "port-silent", what, f"systemctl restart {short(owner)}", owner))
    ours = {unit.name for unit in wanted}
    for name, wants_a_port in facts["failed"].items():
        if name.replace(".socket", ".service") not in ours:
            what = f"{short(name)} has failed"
            do = f"journalctl -u {short(name)} -n 30; once fixed: systemctl reset-failed {short(name)}"
            if wants_a_port:
                what += ": the port that it wants is in use, perhaps by the relay"
                do = f"if it is not needed: systemctl disable {short(name)}; systemctl reset-failed {short(name)}"
            found.append(Finding("warning", "other-unit-failed", what, do))
    running = sum(_is_running(state) for state in facts["units"].values())
    off = "; mail is switched off (disable_mail)" if relay.settings.get("disable_mail") else ""
    return f"{running} of {len(wanted)} run, {len(facts['ports']) - len(facts['silent'])} ports are theirs{off}", found


def _answers(path):
    """Whether somebody listens on a unix socket; those of services with a network of their own are in no list here."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def _collect_sockets(relay):
    sockets = SOCKETS | {relay.settings["turn_socket_path"]: "chatmail-turn.socket"}
    listening = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " 00010000 " in line}
    return {
        path: {
            "unit": unit,
            "there": (there := Path(path).is_socket()),
            "listening": there and (path in listening or _answers(path)),
        }
        for path, unit in sockets.items()
    }


def _judge_sockets(facts, relay):
    found = []
    wanted = {unit.name for unit in wanted_units(relay.settings)}
    for path, state in facts.items():
        service = state["unit"].replace(".socket", ".service")
        if service in wanted and not (state["there"] and state["listening"]):
            why = "is gone" if not state["there"] else "is nobody's"
            what = f"{short(service)} runs, but its socket {path} {why}"
            found.append(Finding("error", "socket-lost", what, f"systemctl restart {short(state['unit'])}", service))
    return f"{len(facts)} are there", found


SERVICES = Check(
    "services",
    _collect_services,
    _judge_services,
    figures=lambda facts: {
        "running": sum(map(_is_running, facts["units"].values())),
        "wanted": len(facts["units"]),
        "listening": len(facts["ports"]) - len(facts["silent"]),
        "ports": len(facts["ports"]),
    },
)
SOCKETS_THERE = Check("sockets", _collect_sockets, _judge_sockets, figures=lambda facts: {"sockets": len(facts)})
