"""Benchmarks are programs of their own: what pytest's settings alone find is not there."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_each_benchmark_finds_what_it_imports():
    modules = sorted(f"test.bench.{path.stem}" for path in (CHECKOUT / "test/bench").glob("[!_]*.py"))
    assert len(modules) > 5
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
