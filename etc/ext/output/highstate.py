"""
The outcome of states, told as ``make apply`` does, in place of Salt's lines for each state.

It is here and not in ``_output``, because a master hands that to its minions, for the states of everybody.
"""

import io
import shutil
import sys
from pathlib import Path

import salt.output.highstate

sys.path.append(str(Path(__file__).resolve().parents[3]))
try:
    from rich.console import Console

    from tools.apply_display import summary
    from tools.apply_result import parse_return
except ImportError:
    # Salt's own, for salt-call with nothing but Salt.
    Console = None


def output(data, **kwargs):
    """
    Return the text for ``data``, the states' results by target.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay state.apply chatmail
    """
    if Console is None:
        salt.output.highstate.__opts__ = __opts__
        return salt.output.highstate.output(data, **kwargs)
    width = shutil.get_terminal_size().columns
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=bool(__opts__.get("color")))
    for host, returned in data.items():
        states = {"return": returned} if isinstance(returned, dict) else returned
        for line in summary(parse_return(host, states, 0), width):
            console.print(line, soft_wrap=True)
    return console.file.getvalue()
