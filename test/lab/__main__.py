"""The lab's command line: ``python -m test.lab COMMAND``."""

import argparse
import os
import sys

from test.lab import machine
from test.lab.commands import say
from test.lab.errors import LabError
from test.lab.lab import DEFAULT_HOSTS, Lab


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m test.lab", description="Disposable Debian hosts on this machine.")
    commands = main.add_subparsers(dest="command", required=True)
    commands.add_parser("deps", help="install what the lab and its tests need on this machine")
    up = commands.add_parser("up", help="bring the lab up, or what has died of it")
    up.add_argument("hosts", nargs="*", metavar="HOST", help=f"default: {' '.join(DEFAULT_HOSTS)}")
    up.add_argument("--keep-inotify-limits", action="store_true", help="do not raise the machine's fs.inotify limits")
    commands.add_parser("down", help="remove the lab and all its traces but the cache")
    for name, text in (("add", "add a bare host"), ("remove", "remove a host")):
        commands.add_parser(name, help=text).add_argument("host", metavar="HOST")
    commands.add_parser("status", help="list the hosts with their addresses")
    ssh = commands.add_parser("ssh", help="log in to a host, or run a command there")
    ssh.add_argument("host", metavar="HOST")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")
    run = commands.add_parser("run", help="run a command on this machine with the lab's name server as resolver")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")
    return main


def act(arguments: argparse.Namespace, lab: Lab) -> None:
    """Carry out one command. Raises LabError."""
    match arguments.command:
        case "deps":
            machine.require_root_on_debian_12()
            say(f"installed {' '.join(machine.install_packages(browser=True)) or 'nothing: all is there'}")
        case "up":
            lab.up(arguments.hosts or DEFAULT_HOSTS, raise_inotify=not arguments.keep_inotify_limits)
            print_status(lab)
        case "down":
            lab.down()
        case "add":
            host = lab.add(arguments.host)
            say(f"{host.name} is up at {host.ipv4}")
        case "remove":
            lab.remove(arguments.host)
            say(f"{arguments.host} is gone")
        case "status":
            print_status(lab)
        case "ssh":
            become(lab.host(arguments.host).ssh_argv(*arguments.argv))
        case "run":
            if not arguments.argv:
                raise LabError("run: which command?")
            become(lab.resolver_argv(arguments.argv))


def print_status(lab: Lab) -> None:
    for host, state in lab.status():
        print(f"{host.name:<20} {host.ipv4!s:<15} {host.ipv6!s:<26} {state}")


def become(argv: list[str]) -> None:
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606  no shell is wanted


def main() -> int:
    try:
        act(parser().parse_args(), Lab())
    except (LabError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; `python -m test.lab up` goes on, `python -m test.lab down` cleans up", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
