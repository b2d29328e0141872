"""A run whose candidates are planted: what is sampled in another run is written in this one."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairwright.plan import Plan
from pairwright.progress import Silent
from pairwright.road import make
from pairwright.selftest.planted import Planted
from pairwright.stages.pipeline import Road
from schemas.arrow import to_table
from schemas.config_files import parse_config
from schemas.configs import Config
from schemas.records import Candidate, content_hash
from schemas.run_folder import RunFolder

_TRAINER = {
    "max_steps": 64,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
}


def planted_plan(
    inputs: Path, run: Path, sections: Mapping[str, Any], planted: Sequence[Planted]
) -> Plan:
    """The plan of a run that trains a tiny model, which lies in `inputs` as the prompts do."""
    from curation.tiny import build_tiny_model

    model = inputs / "model"
    if not model.exists():
        build_tiny_model(model)
    lines = [json.dumps(item.row(), ensure_ascii=False) for item in planted]
    prompts = inputs / f"prompts-{content_hash(lines)}.jsonl"
    prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {
        "run": str(run),
        "model": {"path": str(model), "device": "cpu"},
        "prompts": [{"path": str(prompts)}],
        "validate": {"test_share": 0.2},
        "dpo": {"lora": None, "trainer": _TRAINER},
        **sections,
    }
    config = parse_config(data, as_=Config, where="selftest")
    return Plan(config, RunFolder(config.run))


def plant(plan: Plan, planted: Sequence[Planted]) -> None:
    """Make the prompts as every run does, and put the planted answers where samples would be."""
    road = Road(plan, Silent())
    plan.run.path.mkdir()
    make(road, "prompts")
    half = len(planted) // 2
    parts = (planted[:half], planted[half:])
    writer = road.begin("generate", parts=len(parts))
    for index, part in enumerate(parts):
        candidates = (candidate for item in part for candidate in item.candidates)
        writer.commit(index, to_table(candidates, Candidate))
    writer.finish(counts={"candidates": sum(len(item.candidates) for item in planted)})


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A scope in which torch uses one thread: more only get in each other's way on a tiny model."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
