"""The append-only store of human judgements, which outlives every run.

Labels are the costly asset: they live beside `runs/`, not in one of them, and a run refers to what
it used by digest. A batch is one file, named by its number and the hash of its content, committed
whole; nothing is ever rewritten.
"""

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import from_table, to_table
from schemas.records import Judgement, content_hash
from schemas.run_folder import write_atomic


class AnnotationStore:
    """Judgements by people, in the order they came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, judgements: Iterable[Judgement]) -> int:
        """Store what is not stored yet; how many that was.

        A judgement stored before, by its id, is left out, so a second pull adds nothing twice.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            known = {judgement.id for judgement in self.read()}
            fresh = {item.id: item for item in judgements if item.id not in known}
            if fresh:
                digest = content_hash(*sorted(fresh))
                name = f"batch-{len(self._batches()):06d}-{digest}.parquet"
                sink = pa.BufferOutputStream()
                pq.write_table(to_table(fresh.values(), Judgement), sink, compression="zstd")
                write_atomic(self.folder / name, sink.getvalue())
            return len(fresh)

    def read(self) -> Iterator[Judgement]:
        """Every judgement ever stored, oldest batch first.

        Raises:
            ValueError: a batch does not hold what its name promises.
        """
        for batch in self._batches():
            judgements = from_table(pq.read_table(batch), Judgement)
            digest = batch.stem.rpartition("-")[2]
            if content_hash(*sorted(item.id for item in judgements)) != digest:
                raise ValueError(f"annotation batch '{batch}' was changed after it was written")
            yield from judgements

    def digest(self) -> str:
        """The hash of everything stored so far: what a run records as its input."""
        return content_hash([batch.name for batch in self._batches()])

    def _batches(self) -> list[Path]:
        return sorted(self.folder.glob("batch-*.parquet"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.folder / ".lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
