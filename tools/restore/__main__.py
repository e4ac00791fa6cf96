"""The command ``python -m tools.restore``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tools.errors import ApplyError
from tools.host import StepFailed, alone
from tools.restore.restore import Restore, Source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 only if the relay is there again."""
    parser = argparse.ArgumentParser(prog="python -m tools.restore", description="Make a bare host a relay again.")
    parser.add_argument("relay", help="the host, a name of the roster")
    parser.add_argument("--from", dest="repository", required=True, help="the repository, as restic takes it")
    parser.add_argument("--password-file", type=Path, required=True, help="file here with the repository's password")
    parser.add_argument("--environment-file", type=Path, help="file here with what its place wants: NAME=VALUE lines")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        source = Source.read(options.repository, options.password_file, options.environment_file)
        restore = Restore(options.config_dir, options.relay, source, console)
        with alone(options.config_dir, console):
            restore.run()
    except (ApplyError, StepFailed) as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. Run this again: it begins from the start.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
