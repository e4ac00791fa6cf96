"""Progress of the run: each step with the time at which it began, and what came out of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Steps:
    """Prints steps to ``console``; the clock starts with the object."""

    def __init__(self, console: Console):
        self.console = console
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step. What it prints goes below its title."""
        minutes, seconds = divmod(int(self.elapsed_s), 60)
        self.console.print(f"[bold]{minutes:2}:{seconds:02}  {title}[/bold]", highlight=False)
        yield

    def note(self, text: str) -> None:
        """Say one thing about the step that is going on."""
        self.console.print(f"       {text}", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Show what is going on for as long as it does: moving on a terminal, as one line elsewhere."""
        if self.console.is_terminal:
            with self.console.status(text):
                yield
        else:
            self.note(f"{text} ...")
            yield
