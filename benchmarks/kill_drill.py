"""Kill a run at random moments and at forced points; what it ends with must not change a byte.

    python benchmarks/kill_drill.py                      # 20 random kills, every forced point
    python benchmarks/kill_drill.py --random 3 --every 9 # fewer of both
    python benchmarks/kill_drill.py --training           # DPO and evaluation too

A forced point lies before or after one call of `os.fsync` or `os.replace`: between write, sync and
rename of every file that a run commits. Each kill leaves a folder of its own, the run is then
repeated to its end, and every stored part, the pairs and the dataset among them, is compared with
those of a run that nothing stopped. Exit code 1 where one differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

VERBS = ("generate", "rank", "aggregate", "pair", "validate", "export")
TRAINING = ("dpo", "evaluate")
_KILLED = 137


class Drill(NamedTuple):
    """A config on disk, and how far its road is gone."""

    folder: Path
    verbs: tuple[str, ...]

    def run(self, name: str) -> Path:
        return self.folder / name / "run"


def build_brief_model(folder: Path, *, end: float = 4.0) -> Path:
    """The folder, with a tiny random model in it whose answers mostly end within 20 tokens.

    Every embedding gets a common part, which the end-of-sequence row of the output layer reads:
    a bias of `end` towards stopping.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from curation.tiny import build_tiny_model

    build_tiny_model(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    embeddings = model.get_input_embeddings().weight.data
    width = embeddings.shape[1]
    common = torch.full((width,), 3 * float(embeddings.std()))
    head = embeddings.clone()
    head[model.config.eos_token_id] = common / common.norm() * end / width**0.5
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(head)
    model.get_input_embeddings().weight.data = embeddings + common
    model.save_pretrained(folder)
    return folder


def write_inputs(folder: Path, *, prompts: int = 24) -> Path:
    """A config, its prompts and its model in the folder; the path of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build_brief_model(folder / "model")
    things = ("house", "cat", "sky", "week", "red", "old", "small", "France")
    lines = [
        json.dumps({"prompt": f"Describe the {things[i % len(things)]}, number {i}."})
        for i in range(prompts)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    config = folder / "run.yaml"
    config.write_text(
        f"""\
run: {folder / "run"}
model: {{path: {model}, device: cpu}}
prompts: {{path: {folder / "prompts.jsonl"}}}
generate: {{n: 4, max_new_tokens: 24, batch_size: 16, batches_a_part: 2}}
rank:
  rewards: [{{use: "curation.rewards.rules:LengthReward", args: {{unit: characters, target: 30}}}}]
validate: {{test_share: 0.3, max_quarantined: 1.0}}
dpo:
  lora: {{r: 4, alpha: 8}}
  trainer:
    {{num_train_epochs: 2, per_device_train_batch_size: 4, learning_rate: 1.0e-3, save_steps: 2}}
evaluate: {{n: 2, max_new_tokens: 24, resamples: 100}}
"""
    )
    return config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=20, help="kills at random moments")
    parser.add_argument("--every", type=int, default=1, help="force only every n-th point")
    parser.add_argument("--training", action="store_true", help="go on to DPO and evaluation")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-drill-") as name:
        drill = Drill(Path(name), VERBS + TRAINING * options.training)
        _import_heavy()
        assert _child(lambda: bool(write_inputs(drill.folder))) == 0, "no inputs"
        started = time.monotonic()
        points = _count_points(drill)
        seconds = time.monotonic() - started
        expected = stored(drill.run("whole"))
        print(f"uninterrupted: {seconds:.1f} s, {points} points, {len(expected)} files", flush=True)
        differing = 0
        moments = random.Random(options.seed)
        for number in range(options.random):
            after = moments.uniform(0, seconds)
            killed = _kill_at_moment(drill, f"random-{number}", after)
            differing += _compare(drill, f"random-{number}", expected, f"{after:.2f} s", killed)
        for point in range(0, 2 * points, options.every):
            killed = _kill_at_point(drill, f"point-{point}", point)
            where = f"{'after' if point % 2 else 'before'} call {point // 2}"
            differing += _compare(drill, f"point-{point}", expected, where, killed)
        differing += _compare(drill, _many_kills(drill, moments, seconds), expected, "many", True)
    print(f"{differing} runs differ")
    return int(differing > 0)


def stored(run: Path) -> dict[str, bytes]:
    """Every part and dataset file of a run, by name; manifests hold seconds and are left out."""
    files = [*run.glob("*/*.parquet"), *run.glob("export/README.md")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def _import_heavy() -> None:
    """Import what children need, but run no tensor: a forked child could not use its threads."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401
    import trl  # noqa: F401

    import dpo.trl_adapters.pairs  # noqa: F401
    import pairwright.road  # noqa: F401


def _go(drill: Drill, name: str) -> bool:
    """The road done on the run of that name, through the functions behind the verbs."""
    from pairwright.progress import Silent
    from pairwright.road import make_stage, open_plan

    plan = open_plan(drill.folder / "run.yaml", (), run=drill.run(name), limit=None)
    for verb in drill.verbs:
        make_stage(plan, verb, Silent())
    return True


def _child(work: Callable[[], bool]) -> int:
    """The exit code of a forked process that does the work."""
    return _wait(_fork(work))


def _fork(work: Callable[[], bool]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        code = 0 if work() else 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _count_points(drill: Drill) -> int:
    """Do the whole run and count the calls that a kill could come between."""
    count = drill.folder / "count"

    def work() -> bool:
        calls = _on_calls(lambda point: None)
        _go(drill, "whole")
        return bool(count.write_text(str(calls())))

    assert _child(work) == 0, "the uninterrupted run failed"
    return int(count.read_text())


def _kill_at_point(drill: Drill, name: str, point: int) -> bool:
    """Kill before (even) or after (odd) the call of number point / 2; whether it was reached."""

    def work() -> bool:
        _on_calls(lambda reached: os._exit(_KILLED) if reached == point else None)
        return _go(drill, name)

    return _child(work) == _KILLED


def _kill_at_moment(drill: Drill, name: str, after: float) -> bool:
    process = _fork(lambda: _go(drill, name))
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    return _wait(process) == -signal.SIGKILL


def _many_kills(drill: Drill, moments: random.Random, seconds: float) -> str:
    """The name of a run that was killed again and again, each time before it could end."""
    for _ in range(5):
        _kill_at_moment(drill, "many", moments.uniform(seconds / 8, seconds / 2))
    return "many"


def _on_calls(visit: Callable[[int], None]) -> Callable[[], int]:
    """Call `visit` with 2k before and 2k + 1 after the k-th fsync or replace; how many came."""
    calls = 0

    def wrap(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **named: object) -> None:
            nonlocal calls
            number, calls = calls, calls + 1
            visit(2 * number)
            real(*arguments, **named)
            visit(2 * number + 1)

        return call

    os.fsync, os.replace = wrap(os.fsync), wrap(os.replace)
    return lambda: calls


def _compare(drill: Drill, name: str, expected: dict[str, bytes], where: str, killed: bool) -> int:
    """1 where the repeated run differs from the whole one, and say so; else 0."""
    code = _child(lambda: _go(drill, name))
    found = stored(drill.run(name))
    names = sorted(expected.keys() | found.keys())
    wrong = [file for file in names if expected.get(file) != found.get(file)]
    left = [str(file) for file in drill.run(name).rglob(".*.tmp")]
    verdict = "same" if code == 0 and not wrong else f"DIFFERS: exit {code}, {wrong}"
    state = "killed" if killed else "ended before"
    print(f"{state} at {where}: {verdict}{f', left behind {left}' if left else ''}", flush=True)
    shutil.rmtree(drill.run(name).parent)
    return int(code != 0 or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
