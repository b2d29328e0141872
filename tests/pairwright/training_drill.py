"""Kill each training of the online roads once, go on, and compare with runs that nothing stopped.

    python tests/pairwright/training_drill.py FOLDER

Prints a line a training; the exit code is 1 where a run ends with other bytes.
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

ROADS = {
    "ppo": ("sft", "generate", "rank", "aggregate", "pair", "validate", "export", "reward", "ppo"),
    "grpo": ("grpo",),
}
TRAINED = {"sft", "reward", "ppo", "grpo"}


def main(folder: Path) -> int:
    _import_heavy()
    assert _wait(_fork(partial(_write_inputs, folder))) == 0, "no inputs"
    differing = 0
    for road, verbs in ROADS.items():
        config = folder / f"{road}.yaml"
        # Both runs lie where the config says in their turn, as the reward model's path does.
        run = folder / road
        for verb in verbs:
            assert _wait(_fork(partial(_make, config, verb))) == 0, f"{verb} failed"
        expected = _stored(run)
        run.rename(folder / f"{road}-whole")
        for verb in verbs:
            if verb in TRAINED:
                print(f"{verb}: {_kill(config, run / verb, verb)}", flush=True)
            assert _wait(_fork(partial(_make, config, verb))) == 0, f"{verb} failed"
        found = _stored(run)
        wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
        print(f"{road}: {len(expected)} files, {wrong or 'none'} differ", flush=True)
        differing += bool(wrong)
    return int(differing > 0)


def _kill(config: Path, stage: Path, verb: str) -> str:
    """Kill the training once it has gone on from a checkpoint; how far it was."""
    process = _fork(partial(_make, config, verb))
    log = stage / "steps.jsonl"
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return f"ended before with {os.waitstatus_to_exitcode(status)}"
        whole = [int(file.parent.name.rpartition("-")[2]) for file in stage.glob("*/*/sealed.json")]
        steps = log.read_bytes().count(b"\n") if whole else 0
        if whole and steps > max(whole):
            os.kill(process, signal.SIGKILL)
            _wait(process)
            return f"killed after step {steps}, checkpoint {max(whole)}"
        time.sleep(0.002)


def _stored(run: Path) -> dict[str, bytes]:
    """Every part, rollout and trained weight of a run, by name."""
    files = [
        *run.glob("*/*.parquet"),
        *run.glob("*/rollouts.jsonl"),
        *run.glob("*/policy/*.safetensors"),
        *run.glob("*/model/*.safetensors"),
    ]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def _import_heavy() -> None:
    """Import what children need, but run no tensor: a forked child could not use its threads."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401
    import trl  # noqa: F401

    import dpo.trl_adapters.conversations
    import dpo.trl_adapters.groups
    import dpo.trl_adapters.rewards  # noqa: F401
    import pairwright.road  # noqa: F401


def _write_inputs(folder: Path) -> None:
    from tests.pairwright.online_runs import write_online

    write_online(folder)


def _make(config: Path, verb: str) -> None:
    from pairwright.progress import Silent
    from pairwright.road import make_stage, open_plan

    make_stage(open_plan(config, (), run=None, limit=None), verb, Silent())


def _fork(work: Callable[[], object]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
