"""A relay from outside, by pytest and by `make bench`, which has no pythonpath of pytest's."""

import tools  # noqa: F401  It puts _utils where they are found.
