"""What the stages that ask a server have in common: answers kept over a kill, and their cost."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow as pa

from pairwright.progress import Progress
from schemas.arrow import to_table
from schemas.run_folder import Stage

if TYPE_CHECKING:
    from curation.endpoints import Usage
    from curation.kept_answers import KeptAnswers


@runtime_checkable
class AsksServer(Protocol):
    """A generator or judge on an endpoint."""

    @property
    def usage(self) -> "Usage": ...
    def keep_answers(self, file: Path) -> "KeptAnswers": ...
    def close(self) -> None: ...


class Meter:
    """What the askers of a stage have used since it was last read."""

    def __init__(self, askers: Sequence[AsksServer]) -> None:
        self._askers = askers
        self._before = self._total()

    def table(self) -> dict[str, pa.Table]:
        """The usage since the last call, as a kind of a part's tables; none where nobody asks."""
        from curation.endpoints import Usage

        now, before = self._total(), self._before
        self._before = now
        return {"usage": to_table([now - before], Usage)} if self._askers else {}

    def _total(self) -> "Usage":
        from curation.endpoints import Usage

        return sum((asker.usage for asker in self._askers), Usage())


def askers_among(things: Iterable[object]) -> list[AsksServer]:
    """Those that ask a server."""
    return [thing for thing in things if isinstance(thing, AsksServer)]


@contextmanager
def asking(askers: Sequence[AsksServer], stage: Stage, shard: str | None = None) -> Iterator[Meter]:
    """A scope in which what they are answered is kept in the stage's folder until it is finished.

    A part that is cut off is then made again from the answers that it had.
    """
    mine = "" if shard is None else "-" + shard.replace("/", "-of-")
    for number, asker in enumerate(askers):
        asker.keep_answers(stage.folder / f"answers-{number}{mine}.jsonl")
    try:
        yield Meter(askers)
    finally:
        for asker in askers:
            asker.close()


def tell_abstained(progress: Progress, stage: str, asked: Iterable[tuple[str, object]]) -> None:
    """Say how often the judges and rewards, by name, gave no answer that counts, and why."""
    for name, judge in asked:
        for reason, count in getattr(judge, "abstained", {}).items():
            progress.line(f"{stage}: '{name}' abstained on {count} answers, {reason}")


def forget_answers(stage: Stage) -> None:
    """Delete what was kept of a stage whose parts are all committed."""
    for file in stage.folder.glob("answers-*.jsonl"):
        file.unlink()


def usage_of(stage: Stage) -> dict[str, int] | None:
    """What the stage's committed parts cost; None where none asked a server."""
    from curation.endpoints import Usage

    spent = list(stage.read(Usage, "usage"))
    if not spent:
        return None
    total = sum(spent, Usage())
    return {**total.model_dump(), "retries": total.retries}
