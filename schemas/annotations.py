"""The append-only store of what people were asked and what they answered; it outlives every run.

Labels are the costly asset: they live beside `runs/`, not in one of them, and a run refers to what
it used by digest. A batch is one file, named by its number and the hash of its content, committed
whole. Nothing is ever rewritten, except that `forget` takes a person's or a prompt's rows out for
good and leaves a tombstone.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import from_table, to_table
from schemas.labels import AnnotatorDecision, Buried, LabelTask, Tombstone
from schemas.records import IdentifiedRecord, Judgement, Record, content_hash
from schemas.run_folder import write_atomic

R = TypeVar("R", bound=Record)

_BATCHES_HELD = 4096
"""Batches that a process keeps in memory once it has read them; a pull adds one a dataset."""


class Log(Generic[R]):
    """Records of one class, in the order they came."""

    def __init__(self, folder: Path, name: str, record: type[R]) -> None:
        self._folder = folder
        self._name = name
        self._record = record

    def append(self, records: Iterable[R]) -> int:
        """Store what is not stored yet; how many that was.

        A record stored before, by its id or else its content, is left out, so a second pull adds
        nothing twice.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            known = self._known()
            fresh = {key: item for item in records if (key := _key(item)) not in known}
            if fresh:
                self._write(list(fresh.values()))
            return len(fresh)

    def read(self) -> Iterator[R]:
        """Every record ever stored, oldest batch first.

        A process reads and checks a batch once, however many stores it opens on the folder.

        Raises:
            ValueError: a batch does not hold what its name promises.
        """
        for batch in self._batches():
            yield from self._checked(batch)

    def digest(self) -> str:
        """The hash of everything stored so far: what a run records as its input."""
        return content_hash([batch.name for batch in self._batches()])

    def remove(self, condemned: Callable[[R], bool]) -> int:
        """Take records out for good, each batch rewritten under a new name; how many they were."""
        removed = 0
        if not self._batches():
            return 0
        with self._locked():
            for batch in self._batches():
                before = self._checked(batch)
                kept = [item for item in before if not condemned(item)]
                if len(kept) < len(before):
                    if kept:
                        self._write(kept, number=_number(batch))
                    batch.unlink()
                    removed += len(before) - len(kept)
        return removed

    def _known(self) -> set[str]:
        if issubclass(self._record, IdentifiedRecord):
            tables = (pq.read_table(batch, columns=["id"]) for batch in self._batches())
            return {key for table in tables for key in table["id"].to_pylist()}
        return {_key(item) for item in self.read()}

    def _write(self, records: list[R], number: int | None = None) -> None:
        if number is None:
            number = max((_number(batch) + 1 for batch in self._batches()), default=0)
        sink = pa.BufferOutputStream()
        pq.write_table(to_table(records, self._record), sink, compression="zstd")
        name = f"{self._name}-{number:06d}-{_digest(records)}.parquet"
        write_atomic(self._folder / name, sink.getvalue())

    def _checked(self, batch: Path) -> tuple[R, ...]:
        found = batch.stat()
        as_it_stands = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        return cast("tuple[R, ...]", _read_batch(batch, self._record, as_it_stands))

    def _batches(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._name}-*.parquet"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._folder / ".lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class AnnotationStore:
    """What people were asked, what they answered, and what was decided about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tasks = Log(folder, "tasks", LabelTask)
        self.judgements = Log(folder, "judgements", Judgement)
        self.decisions = Log(folder, "decisions", AnnotatorDecision)
        self.tombstones = Log(folder, "tombstones", Tombstone)

    def excluded(self) -> dict[str, str]:
        """The annotators whose votes do not count now, with the reason."""
        latest: dict[str, AnnotatorDecision] = {}
        for decision in sorted(self.decisions.read(), key=lambda item: item.number):
            latest[decision.annotator] = decision
        return {
            name: decision.reason
            for name, decision in latest.items()
            if decision.action == "exclude"
        }

    def decide(self, annotator: str, action: Literal["exclude", "include"], reason: str) -> None:
        """Leave an annotator's votes out from now on, or count them again."""
        number = max((decision.number + 1 for decision in self.decisions.read()), default=0)
        self.decisions.append(
            [
                AnnotatorDecision(
                    annotator=annotator,
                    action=action,
                    reason=reason,
                    number=number,
                    at=datetime.now(UTC),
                )
            ]
        )

    def forget_annotator(self, name: str) -> Tombstone:
        """Remove a person's answers, and what was decided about them, for good."""
        answers = sum(item.annotator.name == name for item in self.judgements.read())
        stone = self._bury("annotator", name, answers, 0)
        self.judgements.remove(lambda item: item.annotator.name == name)
        self.decisions.remove(lambda item: item.annotator == name)
        return stone

    def forget_prompt(self, prompt_id: str) -> Tombstone:
        """Remove a prompt's tasks and all answers about it for good."""
        asked = [task.id for task in self.tasks.read() if task.prompt.id == prompt_id]
        answers = sum(item.prompt_id == prompt_id for item in self.judgements.read())
        # The stones come first: what is left by a kill is removed by the next call.
        self.tombstones.append(_tombstone("task", task_id, 0, 1) for task_id in asked)
        stone = self._bury("prompt", prompt_id, answers, len(asked))
        self.judgements.remove(lambda item: item.prompt_id == prompt_id)
        self.tasks.remove(lambda item: item.prompt.id == prompt_id)
        return stone

    def forgotten(self, kind: Buried) -> set[str]:
        """`content_hash`es of the annotators' names, or prompts' or tasks' ids, that stay out."""
        return {stone.hash for stone in self.tombstones.read() if stone.kind == kind}

    def _bury(self, kind: Buried, name: str, judgements: int, tasks: int) -> Tombstone:
        stone = _tombstone(kind, name, judgements, tasks)
        self.tombstones.append([stone])
        return stone


@lru_cache(maxsize=_BATCHES_HELD)
def _read_batch(batch: Path, record: type[Record], as_it_stands: Any) -> tuple[Record, ...]:
    """The records of the batch; `as_it_stands` tells the file from another of the same name."""
    records = from_table(pq.read_table(batch), record)
    if _digest(records) != batch.stem.rpartition("-")[2]:
        raise ValueError(f"annotation batch '{batch}' was changed after it was written")
    return tuple(records)


def _tombstone(kind: Buried, name: str, judgements: int, tasks: int) -> Tombstone:
    return Tombstone(
        kind=kind,
        hash=content_hash(name),
        judgements=judgements,
        tasks=tasks,
        at=datetime.now(UTC),
    )


def _key(record: Record) -> str:
    if isinstance(record, IdentifiedRecord):
        return record.id
    return content_hash(record.model_dump(mode="json"))


def _digest(records: Iterable[Record]) -> str:
    return content_hash(*sorted(_key(item) for item in records))


def _number(batch: Path) -> int:
    return int(batch.stem.rsplit("-", 2)[1])
