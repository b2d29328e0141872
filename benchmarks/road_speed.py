"""How long 100,000 candidates take from rank to dataset, and how much memory.

    python benchmarks/road_speed.py [--candidates 100000] [--token-pairs 2000]

The stages are the run's own (`rank` by a rule, `aggregate`, `pair`, `validate` without token
checks, `export`), on answers made up here. The gate's token checks are measured apart, and as a
ratio against TRL's own preparation of the same pairs, which tokenises each prompt, prompt with
chosen and prompt with rejected; the two alternate and the median of the ratios is printed. Times
are CPU seconds and wall seconds of this process; memory is its peak.
"""

import argparse
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.formats.trl import read_dataset
from curation.tiny import build_tiny_model
from pairwright.plan import Plan
from pairwright.progress import Silent
from pairwright.stages.pipeline import (
    Road,
    make_judgements,
    make_pairs,
    make_proposals,
    make_rankings,
)
from pairwright.stages.training import make_dataset
from schemas.arrow import to_table
from schemas.configs import Config
from schemas.records import Candidate, Completion, Message, Origin, Prompt
from schemas.run_folder import RunFolder

WORDS = (
    "the",
    "a",
    "river",
    "house",
    "quickly",
    "green",
    "walks",
    "over",
    "under",
    "bright",
    "morning",
    "paper",
    "keeps",
    "and",
)
ANSWERS_A_PROMPT = 4
PROMPTS_A_PART = 500


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def made_up(prompts: int) -> Iterator[tuple[Prompt, list[Candidate]]]:
    rng = random.Random(0)
    for number in range(prompts):
        prompt = Prompt(messages=(Message(role="user", content=f"{number}: {sentence(rng, 20)}"),))
        yield (
            prompt,
            [
                Candidate(
                    prompt_id=prompt.id,
                    completion=Completion.from_text(
                        sentence(rng, rng.randint(5, 60)), finish_reason="stop"
                    ),
                    origin=Origin(generator="import:benchmark", index=index),
                )
                for index in range(ANSWERS_A_PROMPT)
            ],
        )


def fill(run: RunFolder, prompts: int) -> None:
    """The stages that a sampled run would have, with made-up answers."""
    parts = -(-prompts // PROMPTS_A_PART)
    writers = {
        name: run.stage(name).begin(config={}, inputs={}, parts=parts)
        for name in ("prompts", "generate")
    }
    items = made_up(prompts)
    for part in range(parts):
        chunk = [item for _, item in zip(range(PROMPTS_A_PART), items, strict=False)]
        writers["prompts"].commit(part, to_table([prompt for prompt, _ in chunk], Prompt))
        candidates = [candidate for _, found in chunk for candidate in found]
        writers["generate"].commit(part, to_table(candidates, Candidate))
    writers["prompts"].finish(counts={"read": prompts, "prompts": prompts})
    writers["generate"].finish(counts={"candidates": prompts * ANSWERS_A_PROMPT})


def config(folder: Path) -> Config:
    return Config.model_validate(
        {
            "run": folder / "run",
            "model": {"path": str(build_tiny_model(folder / "model"))},
            "prompts": {"path": "made-up"},
            "rank": {
                "rewards": [
                    {
                        "use": "curation.rewards.rules:LengthReward",
                        "args": {"target": 20, "unit": "words"},
                    }
                ]
            },
            "validate": {"token_checks": False},
        }
    )


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds and wall seconds of the work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def road_times(folder: Path, candidates: int) -> Iterator[tuple[str, float, float]]:
    settings = config(folder)
    run = RunFolder(settings.run)
    fill(run, candidates // ANSWERS_A_PROMPT)
    road = Road(Plan(settings, run), Silent())
    for name, make in {
        "rank": make_judgements,
        "aggregate": make_rankings,
        "pair": make_proposals,
        "validate": make_pairs,
        "export": make_dataset,
    }.items():
        yield (name, *timed(lambda make=make: make(road)))


def token_check_ratios(folder: Path, pairs: int, rounds: int = 5) -> tuple[float, list[float]]:
    """CPU seconds of our token checks, and their ratios to TRL's preparation of the same pairs."""
    from datasets import Dataset, disable_progress_bars
    from transformers.utils import logging
    from trl import DPOConfig, DPOTrainer

    from curation.models import load_policy
    from curation.validation.gate import Gate
    from curation.validation.row import rows_from_proposals
    from schemas.configs import ModelConfig, ValidateConfig
    from schemas.records import PairProposal

    disable_progress_bars()
    logging.disable_progress_bar()
    settings = ModelConfig(path=str(folder / "model"))
    policy, reference = load_policy(settings), load_policy(settings)
    run = RunFolder(folder / "run")
    proposals = [
        item for _, item in zip(range(pairs), run.stage("pair").read(PairProposal), strict=False)
    ]
    rows = read_dataset(run.stage("export").folder)["train"][:pairs]
    columns = ("prompt", "chosen", "rejected")

    def trl() -> None:
        data = Dataset.from_list([{key: row[key] for key in columns} for row in rows])
        arguments = DPOConfig(
            output_dir=str(folder / "trl"),
            use_cpu=True,
            bf16=False,
            report_to="none",
            max_length=512,
        )
        DPOTrainer(
            model=policy.model,
            ref_model=reference.model,
            args=arguments,
            train_dataset=data,
            processing_class=policy.tokenizer,
        )

    def gate(*, token_checks: bool) -> None:
        settings = ValidateConfig(token_checks=token_checks, max_length=512)
        chat = policy.chat if token_checks else None
        Gate(settings, seed=0, chat=chat).run(rows_from_proposals(proposals))

    seconds, ratios = [], []
    for _ in range(rounds):
        ours = (
            timed(lambda: gate(token_checks=True))[0] - timed(lambda: gate(token_checks=False))[0]
        )
        seconds.append(ours)
        ratios.append(timed(trl)[0] / ours)
    return statistics.median(seconds), ratios


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--candidates", type=int, default=100_000)
    arguments.add_argument("--token-pairs", type=int, default=2_000)
    wanted = arguments.parse_args()
    table = Table("stage", "CPU s", "wall s", title=f"{wanted.candidates:,} candidates")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times = list(road_times(folder, wanted.candidates))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        for stage, cpu, wall in times:
            table.add_row(stage, f"{cpu:.1f}", f"{wall:.1f}")
        table.add_row("all", *(f"{sum(row[at] for row in times):.1f}" for at in (1, 2)))
        console = Console()
        console.print(table)
        console.print(f"peak memory {peak:.2f} GiB")
        seconds, ratios = token_check_ratios(folder, wanted.token_pairs)
    console.print(
        f"token checks of {wanted.token_pairs:,} pairs: {seconds:.2f} CPU s; TRL's own "
        f"preparation takes {statistics.median(ratios):.1f} times as long "
        f"(from {min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
