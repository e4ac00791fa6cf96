"""Run the targets, one after the other: ``python -m test.fuzz [--seed N] SECONDS [TARGET...]``; a table at the end.

What is found that reaches new code is kept in build/fuzz/TARGET, and is where the next run begins. An input for which a
property does not hold is left in build/fuzz/TARGET.crash-..., and the exit status is 1.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build/fuzz"
PROGRESS_S = 10
INPUT_MAX = 4096  # octets
# Of one input. Work that grows faster than the input shows as a timeout, on a busy machine too.
INPUT_S = 30


def fuzz(name: str, seconds: int, seed: int) -> tuple[int, bool]:
    """Run one target for some seconds; returns the number of executions, and whether all was well.

    :param seed: libFuzzer's; with 0 it takes another one each time.
    """
    corpus, log = BUILD / name, BUILD / f"{name}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "test.fuzz.one", name, corpus, f"-max_total_time={seconds}", f"-max_len={INPUT_MAX}"]
    argv += [f"-seed={seed}", f"-timeout={INPUT_S}", "-print_final_stats=1", f"-artifact_prefix={corpus}."]
    with log.open("w") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output)
    begun = time.monotonic()
    while process.poll() is None:
        try:
            process.wait(PROGRESS_S)
        except subprocess.TimeoutExpired:
            print(f"  {name}: {time.monotonic() - begun:.0f} of {seconds} s, {executions(log)} executions", flush=True)
    if process.returncode:
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
    return executions(log), process.returncode == 0


def executions(log: Path) -> int:
    """How many executions libFuzzer's log tells of."""
    found = re.findall(r"(?m)^#(\d+)\s|number_of_executed_units: (\d+)", log.read_text(errors="replace"))
    return max((int(one or other) for one, other in found), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("seconds", type=int)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    seconds, names = options.seconds, options.targets
    if not names:
        names = subprocess.check_output([sys.executable, "-m", "test.fuzz.one"], text=True).split()
    share = max(1, seconds // len(names))
    rows = [(name, *fuzz(name, share, options.seed)) for name in names]
    print(f"\n{'target':<20}{'executions':>12}{'seconds':>9}  found")
    for name, count, well in rows:
        print(f"{name:<20}{count:>12}{share:>9}  {'nothing' if well else f'see build/fuzz/{name}.log'}")
    return 0 if all(well for *_, well in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
