"""Kill rounds at several moments, go on each time, and compare with rounds that nothing stopped.

    python tests/pairwright/rounds_drill.py FOLDER

Prints a line a kill; the exit code is 1 where the rounds end with other bytes.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

Moment = Callable[[], bool]


def main(folder: Path) -> int:
    from tests.pairwright.training_drill import _fork, _import_heavy, _wait

    _import_heavy()
    config, rounds = folder / "rounds.yaml", folder / "rounds"
    assert _wait(_fork(partial(_write, folder))) == 0, "no inputs"
    assert _wait(_fork(partial(_make, config))) == 0, "the rounds failed"
    expected = _stored(rounds)
    # Both lie where the config says in their turn, as a round names the policy before by its path.
    rounds.rename(folder / "whole")
    for name, reached in (
        ("round 1 sampled", partial(_has, rounds / "round-1" / "generate", "part-00001.parquet")),
        ("round 1 ended", partial(_has, rounds / "round-2", "config.yaml")),
        ("round 2 trained", partial(_has_checkpoint, rounds / "round-2" / "dpo")),
    ):
        process = _fork(partial(_make, config))
        print(f"{name}: {_kill(process, reached)}", flush=True)
    assert _wait(_fork(partial(_make, config))) == 0, "the rounds did not go on"
    found = _stored(rounds)
    wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
    print(f"{len(expected)} files, {wrong or 'none'} differ")
    return int(bool(wrong))


def _kill(process: int, reached: Moment) -> str:
    while not reached():
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return f"ended before with {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "killed"


def _has(folder: Path, name: str) -> bool:
    return (folder / name).exists()


def _has_checkpoint(stage: Path) -> bool:
    return any(stage.glob("checkpoints/*/sealed.json")) and not (stage / "policy").exists()


def _stored(rounds: Path) -> dict[str, bytes]:
    """Every part and trained weight of the rounds, by name."""
    files = [*rounds.glob("*/*/*.parquet"), *rounds.glob("*/dpo/policy/*.safetensors")]
    return {str(file.relative_to(rounds)): file.read_bytes() for file in files}


def _write(folder: Path) -> None:
    from tests.pairwright.rounds_inputs import write_rounds

    write_rounds(folder)


def _make(config: Path) -> None:
    from pairwright.progress import Silent
    from pairwright.rounds.loop import make_rounds, open_rounds

    rounds = open_rounds(config, (), run=None, limit=None)
    make_rounds(rounds, Silent(), lambda number, made: True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
