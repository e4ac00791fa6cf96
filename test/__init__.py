"""The tests; benchmarks and other programs among them run outside of pytest, which has a pythonpath of its own."""

import tools  # noqa: F401  It puts _utils where they are found.
