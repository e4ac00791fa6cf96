"""``python -m test.storm``: two relays under killing and calamities, and a table of what was told and what arrived.

Ends with 1 if a message was lost, came twice without reason, or was refused for good. The seed that it prints brings
the same choices again.
"""

import argparse
import random
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from test.lab import Lab
from test.lab.errors import LabError
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.steps import Steps
from test.storm import calamities
from test.storm.mail import Outcome
from test.storm.run import calamity, judge, kill_while_sending

HOSTS = ("_one.test", "_two.test")
CALAMITY_S = 20
CALAMITY_MESSAGES = 100
# Characters, for logs as well.
TABLE_WIDTH = 170


def _table(rows: Sequence[tuple[str, Outcome]]) -> Table:
    columns = (
        "messages",
        "a second",
        "lost",
        "twice",
        "client had no answer",
        "without reason",
        "told later",
        "told for good",
        "bounces",
        "well after",
    )
    table = Table("What happened", *columns, box=None, header_style="bold")
    for what, outcome in rows:
        figures = (
            len(outcome.accepted),
            f"{len(outcome.accepted) / outcome.seconds:.0f}",
            len(outcome.lost),
            len(outcome.twice),
            len(outcome.twice_unanswered),
            len(outcome.twice_without_reason),
            sum(message.later for message in outcome.messages),
            len(outcome.refusals),
            outcome.bounces,
            "" if outcome.well_after_s is None else f"{outcome.well_after_s:.0f} s",
        )
        table.add_row(what, *map(str, figures))
    return table


def main() -> int:
    """Run the command. Returns 0 only if nothing was lost, doubled without reason, or refused for good."""
    parser = argparse.ArgumentParser(prog="python -m test.storm", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="messages while things are killed (10000)")
    parser.add_argument("--crashes", type=int, default=4, help="crashes of whole hosts among that (4)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="for the same choices again")
    arguments = parser.parse_args()
    steps = Steps(Console())
    rows, faults = [], []
    try:
        lab = Lab()
        with steps.step(f"The relays {' and '.join(HOSTS)}"):
            lab.up(HOSTS)
            # These would refuse new addresses before the disk or the memory itself has to.
            configure(lab, HOSTS, min_free_disk_space=0, min_available_memory=0)
            deploy(lab.layout.salt / "etc", HOSTS, steps.console)
        hosts = [lab.host(name) for name in HOSTS]
        with steps.step(f"{arguments.messages} messages while daemons and hosts are killed, seed {arguments.seed}"):
            outcome, kills = kill_while_sending(
                lab, hosts, steps, count=arguments.messages, crashes=arguments.crashes, seed=arguments.seed
            )
            rows.append((f"{kills.total()} kills, {kills['host']} of them hosts", outcome))
            faults += judge(outcome)
            steps.note("killed: " + ", ".join(f"{unit} {count}" for unit, count in kills.most_common()))
        # Of Debian 12 and 13.
        for victim, other in (hosts, hosts[::-1]):
            with calamities.own_file_system(victim):
                for name in calamities.ALL:
                    title = f"{victim.name}: {name}"
                    with steps.step(f"{title}, for {CALAMITY_S} s"):
                        outcome = calamity(name, [victim, other], CALAMITY_MESSAGES, CALAMITY_S)
                    rows.append((title, outcome))
                    faults += [f"{title}: {fault}" for fault in judge(outcome)]
    except (RelayError, LabError) as error:
        steps.console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    # Of its own width, in a file too, where rich takes 80 columns.
    Console(width=TABLE_WIDTH).print("", _table(rows))
    for fault in faults:
        steps.console.print(f"✗ {fault}", style="red", markup=False, soft_wrap=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
