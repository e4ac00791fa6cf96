"""The command ``python -m tools.migrate``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tools.errors import ApplyError
from tools.host import StepFailed, alone
from tools.migrate.move import Move


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 only if the relay has moved."""
    parser = argparse.ArgumentParser(prog="python -m tools.migrate", description="Move a relay to a new host.")
    parser.add_argument("old", help="the host that it is on, a name of the roster")
    parser.add_argument("new", help="the host that it goes to, bare Debian 12 or 13")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    parser.add_argument("--reopen", action="store_true", help="call the move off: the old host serves again")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    again = "Run this again: it goes on where it was."
    try:
        move = Move(options.config_dir, options.old, options.new, console)
        with alone(options.config_dir, console):
            if options.reopen:
                move.reopen()
                console.print(f"{options.old} serves as before.")
                return 0
            move.run()
    except (ApplyError, StepFailed) as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(f"Interrupted. {again}")
        return 130
    console.print(
        f"✓ The relay is on {options.new}. {options.old} forwards to it; keep it until the DNS records have moved."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
