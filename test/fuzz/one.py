"""One target in a process of its own: ``python -m test.fuzz.one TARGET CORPUS [OPTION...]``; else their names."""

import sys
from pathlib import Path

import atheris

from test.fuzz.targets import targets


def main() -> None:
    """Seed the corpus and fuzz; the options are libFuzzer's."""
    if len(sys.argv) < 3:
        print("\n".join(targets()))
        return
    name, corpus = sys.argv[1], Path(sys.argv[2])
    target = targets()[name]
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
