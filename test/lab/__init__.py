"""Disposable Debian 12 and 13 hosts on one machine: the lab in which the formula is proven.

Use it from tests as ``from test.lab import Lab`` and from a shell as ``python -m test.lab up``; README.rst
beside this file says how.
"""

from test.lab.errors import LabError
from test.lab.hosts import Host
from test.lab.lab import Lab

__all__ = ["Host", "Lab", "LabError"]
