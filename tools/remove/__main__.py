"""The command ``python -m tools.remove``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tools.errors import ApplyError
from tools.host import StepFailed, alone
from tools.remove.remove import Remove


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 only if the relay is removed, or would be."""
    parser = argparse.ArgumentParser(prog="./relay remove", description="Delete a relay, with all mail and keys.")
    parser.add_argument("relay", help="the host, a name of the roster")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        removal = Remove(options.config_dir, options.relay, console, input)
        with alone(options.config_dir, console):
            removal.run(dry_run=options.dry_run)
    except (ApplyError, StepFailed) as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except (KeyboardInterrupt, EOFError):
        console.print("\nInterrupted. Run this again: it goes on with what is still there.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
