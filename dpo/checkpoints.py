"""Which checkpoint a killed training may go on from."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from dpo.step_log import StepLog
from schemas.run_folder import write_atomic

_SEAL = "sealed.json"


def prepare_folder(out: Path, log: StepLog[Any], identity: str) -> str | None:
    """The checkpoint to go on from; what another training left in the folder is removed."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoints, marker = out / "checkpoints", out / "training.json"
    if not marker.exists() or json.loads(marker.read_text())["identity"] != identity:
        for stale in (checkpoints, out / "policy"):
            shutil.rmtree(stale, ignore_errors=True)
        log.path.unlink(missing_ok=True)
        write_atomic(marker, json.dumps({"identity": identity}).encode())
    whole = []
    for folder in checkpoints.glob("checkpoint-*"):
        if _is_whole(folder):
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    last = max(whole, key=step_of, default=None)
    log.cut(0 if last is None else step_of(last))
    return None if last is None else str(last)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as whole, once its files are on the disk itself."""
    sizes = {}
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
        sizes[str(file.relative_to(checkpoint))] = file.stat().st_size
    write_atomic(checkpoint / _SEAL, json.dumps(sizes).encode())


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / _SEAL).read_text())
    except FileNotFoundError:
        return False
    return all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == size
        for name, size in sizes.items()
    )
