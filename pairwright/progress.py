"""How far the work is: a bar on a terminal, a plain line now and then elsewhere; on stderr."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

if TYPE_CHECKING:
    from rich import progress


class Task(Protocol):
    """One piece of work whose progress is shown."""

    def advance(self, count: int) -> None:
        """So many more units are done."""

    def set(self, done: int, total: int, note: str = "") -> None:
        """So many of so many are done, and what else there is to say."""


class Progress:
    """Where stages say what they do."""

    def __init__(self, console: Console | None = None, *, every: float = 15.0) -> None:
        self.console = console or Console(stderr=True)
        self.every = every
        """Seconds between plain lines."""

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, name: str, unit: str, total: int = 0) -> Iterator[Task]:
        """The task to report to while the work goes on."""
        if not self.console.is_terminal:
            yield _Lines(self, name, unit, total)
            return
        from rich import progress  # slow to import, and not needed for lines

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[unit]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
        )
        with progress.Progress(*columns, console=self.console) as bars:
            task_id = bars.add_task(name, total=total or None, unit=unit, note="")
            yield _Bar(bars, task_id)


class Silent(Progress):
    """Says nothing: for all processes of a distributed run but the first."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True, quiet=True, force_terminal=False))


class _Bar:
    def __init__(self, bars: "progress.Progress", task_id: "progress.TaskID") -> None:
        self._bars = bars
        self._task_id = task_id

    def advance(self, count: int) -> None:
        self._bars.advance(self._task_id, count)

    def set(self, done: int, total: int, note: str = "") -> None:
        self._bars.update(self._task_id, completed=done, total=total, note=note)


class _Lines:
    def __init__(self, progress: Progress, name: str, unit: str, total: int) -> None:
        self._progress = progress
        self._name = name
        self._unit = unit
        self._total = total
        self._done = 0
        self._started = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        self.set(self._done + count, self._total)

    def set(self, done: int, total: int, note: str = "") -> None:
        self._done, self._total = done, total
        now = time.monotonic()
        if now - self._last < self._progress.every or not done:
            return
        self._last = now
        spent = now - self._started
        left = spent / done * (total - done)
        tail = f"; {note}" if note else ""
        self._progress.line(
            f"{self._name}: {done} of {total} {self._unit}, {spent:.0f} s, "
            f"about {left:.0f} s left{tail}"
        )
