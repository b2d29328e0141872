"""The folder of a run: `RUN/<stage>/part-*.parquet` and a manifest.

A part is written to a temporary name, synced, then renamed, so a kill at any moment loses at most
the part in hand and never leaves half a file under a real name. A stage whose config or input is
the same goes on after its last part; one whose config or input changed starts again.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from schemas import SCHEMA_VERSION
from schemas.arrow import first_error, from_table
from schemas.records import Json, Record, content_hash

R = TypeVar("R", bound=BaseModel)

_RECORDED_PACKAGES = ("pairwright", "torch", "transformers", "trl", "peft", "datasets", "pyarrow")


class Manifest(Record):
    """What a stage did: enough to explain its files and to tell whether they are still true."""

    schema_version: int
    stage: str
    state: Literal["running", "complete"]
    fingerprint: str
    config: Json
    inputs: dict[str, str]
    """The digest of each input stage or file."""
    packages: dict[str, str]
    counts: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)
    """How many rows left the road here, by reason code."""
    facts: Json = None
    """What else the stage found out: hashes, template report, measurements."""
    seconds: float = 0.0
    parts: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file, by name."""


def write_atomic(path: Path, data: bytes) -> None:
    """Put data at path whole or not at all, whenever the process or the machine stops."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunFolder:
    """A run: stages, each with its parts and manifest, under one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def existing(cls, path: Path) -> Self:
        """The run at path.

        Raises:
            ValueError: there is none.
        """
        run = cls(path)
        if not run.stages():
            raise ValueError(
                f"'{path}' is no run folder, or one without stages; expected stages such as "
                "generate/ in it"
            )
        return run

    def stage(self, name: str) -> "Stage":
        return Stage(self.path / name)

    def stages(self) -> dict[str, "Stage"]:
        """The stages that have a manifest, by name, in the order they were begun."""
        found = [Stage(file.parent) for file in self.path.glob("*/manifest.json")]
        found.sort(key=lambda stage: (stage.folder / "manifest.json").stat().st_ctime_ns)
        return {stage.folder.name: stage for stage in found}

    @contextlib.contextmanager
    def writing(self, shard: str | None = None) -> Iterator[None]:
        """Hold the run for writing; shards of one stage may write side by side.

        Raises:
            ValueError: another process writes here.
            OSError: no folder can be made here.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # as in /proc, and of a folder that was deleted
            raise OSError(
                f"run folder '{self.path}' cannot be made ({error.strerror}); use another run "
                "folder (run=DIR)"
            ) from error
        with contextlib.ExitStack() as locks:
            run_mode = fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH
            locks.enter_context(_held(self.path / ".lock", run_mode, self.path))
            if shard is not None:
                name = f".lock-{shard.replace('/', '-of-')}"
                locks.enter_context(_held(self.path / name, fcntl.LOCK_EX, self.path))
            yield


@contextlib.contextmanager
def _held(path: Path, mode: int, run: Path) -> Iterator[None]:
    with open(path, "a") as file:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"run '{run}' is being written by another process; wait for it, or use another "
                "run folder (run=DIR)"
            ) from None
        yield


class Stage:
    """One stage of a run as it stands on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self) -> Manifest | None:
        """The manifest, or None where the stage was never begun.

        Raises:
            ValueError: another schema version wrote it, or it is damaged.
        """
        try:
            text = (self.folder / "manifest.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(
                f"'{self.folder}/manifest.json' is damaged ({first_error(error)}); "
                "delete the stage's folder to make it again"
            ) from None
        if manifest.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"'{self.folder}' was written with schema version {manifest.schema_version}; this "
                f"is version {SCHEMA_VERSION} and there is no migration between them"
            )
        return manifest

    def completed(self) -> Manifest:
        """The manifest of the finished stage.

        Raises:
            ValueError: the stage has not been run to its end.
        """
        manifest = self.manifest()
        if manifest is None or manifest.state != "complete":
            state = "has not been run" if manifest is None else "is not finished"
            name = self.folder.name
            raise ValueError(f"stage '{name}' of run '{self.folder.parent}' {state}; run it first")
        return manifest

    def digest(self) -> str:
        """The hash of the finished stage's parts: what a later stage's inputs refer to."""
        return content_hash(self.completed().parts)

    def files(self, kind: str = "part") -> list[Path]:
        """The committed files of one kind, in order."""
        return sorted(self.folder.glob(f"{kind}-*.parquet"))

    def tables(self, kind: str = "part") -> Iterator[pa.Table]:
        """The committed tables of one kind, one at a time."""
        for file in self.files(kind):
            yield pq.read_table(file)

    def read(self, record: type[R], kind: str = "part") -> Iterator[R]:
        """The records of one kind, streamed file by file."""
        for file in self.files(kind):
            try:
                yield from from_table(pq.read_table(file), record)
            except (ValueError, pa.ArrowInvalid) as error:
                raise ValueError(f"'{file}': {error}") from error

    def begin(
        self, *, config: Any, inputs: Mapping[str, str], parts: int, facts: Any = None
    ) -> "StageWriter":
        """Start the stage, or go on with it where config and inputs are what they were.

        `parts` is how many parts the whole input makes. `facts` about the stage are stored beside
        the config but do not decide whether the stage is the same.
        """
        fingerprint = content_hash(self.folder.name, config, dict(inputs), parts, SCHEMA_VERSION)
        before = self.manifest()
        if before is not None and before.fingerprint == fingerprint:
            return StageWriter(self, before, parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            stage=self.folder.name,
            state="running",
            fingerprint=fingerprint,
            config=config,
            inputs=dict(inputs),
            packages=_package_versions(),
            facts=facts,
        )
        # The old parts go before the new manifest comes: a kill between the two leaves a manifest
        # that misses its parts, never parts under a manifest that did not make them.
        for old in self.folder.glob("*.parquet"):
            old.unlink()
        self._write_manifest(manifest)
        return StageWriter(self, manifest, parts)

    def _write_manifest(self, manifest: Manifest) -> None:
        data = manifest.model_dump_json(indent=2).encode("utf-8", "surrogatepass")
        write_atomic(self.folder / "manifest.json", data + b"\n")


class StageWriter:
    """Commits the parts of a stage that has begun."""

    def __init__(self, stage: Stage, manifest: Manifest, parts: int) -> None:
        self.stage = stage
        self._manifest = manifest
        self._parts = parts
        self._started = time.monotonic()

    def missing(self, shard: str | None = None) -> list[int]:
        """The numbers of the parts still to be made; of shard `k/n` those with number % n == k."""
        numbers = (index for index in range(self._parts) if not self._path("part", index).exists())
        if shard is None:
            return list(numbers)
        k, n = parse_shard(shard)
        return [index for index in numbers if index % n == k]

    def commit(self, index: int, part: pa.Table, **others: pa.Table) -> None:
        """Store one part; tables of other kinds go first, so the part stands for all of them."""
        for kind, table in {**others, "part": part}.items():
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            write_atomic(self._path(kind, index), sink.getvalue())

    def finish(
        self,
        *,
        counts: Mapping[str, int],
        reasons: Mapping[str, int] | None = None,
        facts: Any = None,
    ) -> Manifest:
        """Close the stage; its parts are hashed into the manifest.

        A stage that was complete before keeps its manifest as it is.
        """
        if self._manifest.state == "complete":
            return self._manifest
        manifest = self._manifest.model_copy(
            update={
                "state": "complete",
                "counts": dict(counts),
                "reasons": dict(sorted((reasons or {}).items())),
                "facts": self._manifest.facts if facts is None else facts,
                "seconds": round(time.monotonic() - self._started, 3),
                "parts": {
                    file.name: file_sha256(file)
                    for file in sorted(self.stage.folder.glob("*.parquet"))
                },
            }
        )
        self.stage._write_manifest(manifest)
        return manifest

    @property
    def complete(self) -> bool:
        """Whether the stage was finished, with this very config and input, before it was begun."""
        return self._manifest.state == "complete" and not self.missing()

    def _path(self, kind: str, index: int) -> Path:
        return self.stage.folder / f"{kind}-{index:05d}.parquet"


def parse_shard(shard: str) -> tuple[int, int]:
    """`k/n` as (k, n), with 0 <= k < n.

    Raises:
        ValueError: it is not of that form.
    """
    k, slash, n = shard.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and int(k) < int(n)):
        raise ValueError(f"shard '{shard}' is not of the form k/n with k from 0 to n-1")
    return int(k), int(n)


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
