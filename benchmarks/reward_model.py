"""What can a reward model learn from a few hundred pairs that three people judged?

    python benchmarks/reward_model.py --data DIR [--epochs 1] [--seed 0]

DIR holds pandalm_human3.jsonl: pairs of answers, each judged by three people as left, right or tie.
The label is the majority; pairs on whose winner no two agree, or most see a tie, are left out and
counted, as are pairs with an empty answer and pairs over the length limit. Prompts are split 80 to
20. The bundled SmolLM2 gets a head and a LoRA adapter and sees the training pairs once, each with
the posterior of its votes. Printed: accuracy on the held-out pairs with its interval, the floor
(the longer answer wins), and the ceiling of a judge who knows the truth, from how often two people
agree on pairs of which neither says tie.
"""

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from curation.formats.trl import write_dataset
from curation.models import BUNDLED
from curation.posteriors import majority_posterior
from dpo.reward_accuracy import LabelAgreement
from dpo.train_reward import RewardResult, train_reward
from schemas.configs import LoraConfig, ModelConfig, RewardModelConfig
from schemas.records import (
    Candidate,
    Completion,
    Message,
    Origin,
    PreferencePair,
    Prompt,
    content_hash,
)

ANNOTATORS = ("annotator1", "annotator2", "annotator3")


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    text = "\n\n".join(part for part in (str(row["instruction"]), str(row["input"])) if part)
    return Prompt(messages=(Message(role="user", content=text),))


def candidate(prompt: Prompt, text: str) -> Candidate:
    return Candidate(
        prompt_id=prompt.id,
        completion=Completion.from_text(text),
        origin=Origin(generator="import:pandalm"),
    )


def split_of(prompt: Prompt, seed: int) -> Literal["train", "test"]:
    return "test" if int(content_hash(prompt.id, seed), 16) % 5 == 0 else "train"


def pairs_of(
    rows: Sequence[Mapping[str, Any]], seed: int, left_out: Counter[str]
) -> Iterator[PreferencePair]:
    """The pairs that a majority decided; `left_out` counts the others by reason."""
    seen: set[tuple[str, frozenset[str]]] = set()
    for row in rows:
        votes = Counter(row[name] for name in ANNOTATORS)
        verdict = majority_posterior(votes[1], votes[2], votes[0])
        if verdict.winner == "tie":
            left_out["no majority for a side"] += 1
            continue
        answers = [str(row["response1"]), str(row["response2"])]
        if not all(answer.strip() for answer in answers):
            left_out["an empty answer"] += 1
            continue
        prompt = prompt_of(row)
        key = (prompt.id, frozenset(answers))
        if key in seen:
            left_out["the same two answers again"] += 1
            continue
        seen.add(key)
        chosen, rejected = answers if verdict.winner == "left" else reversed(answers)
        yield PreferencePair(
            prompt=prompt,
            chosen=candidate(prompt, chosen),
            rejected=candidate(prompt, rejected),
            p_chosen=max(verdict.p_left, 1 - verdict.p_left),
            strategy="majority of 3",
            split=split_of(prompt, seed),
        )


def agreement_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """How often two of a pair's annotators say the same, where neither says tie."""
    compared = [
        int(row[one] == row[other])
        for row in rows
        for one, other in itertools.combinations(ANNOTATORS, 2)
        if row[one] and row[other]
    ]
    return statistics.fmean(compared)


def train(pairs: Sequence[PreferencePair], labels: LabelAgreement, args: Any) -> RewardResult:
    def tell(what: str, done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            print(f"step {done} of {total}: {what}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        write_dataset(pairs, Path(folder) / "dataset")
        config = RewardModelConfig(
            lora=LoraConfig(r=16, alpha=32),
            trainer={
                "num_train_epochs": args.epochs,
                "learning_rate": args.learning_rate,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 4,
                "warmup_steps": 8,
                "save_strategy": "no",
            },
        )
        return train_reward(
            Path(folder) / "dataset",
            ModelConfig(path=BUNDLED),
            config,
            out=Path(folder) / "reward",
            seed=args.seed,
            max_length=args.max_length,
            agreement=labels,
            progress=tell,
        )


def show(result: RewardResult, left_out: Counter[str], began: float) -> None:
    facts, held_out = result.facts, result.facts["held_out"]
    ceiling = held_out["ceiling"]
    table = Table(title="PandaLM, three people a pair: held-out pairs, prompts not trained on")
    for column in ("judge", "accuracy", "95% interval", "pairs", "prompts"):
        table.add_column(column)
    for name, key in (("the longer answer wins", "floor"), ("reward model", "accuracy")):
        found = held_out[key]
        interval = f"{found['low']:.3f} to {found['high']:.3f}"
        counts = (str(found["pairs"]), str(found["prompts"]))
        table.add_row(name, f"{found['share']:.3f}", interval, *counts)
    if ceiling is not None:
        table.add_row(f"ceiling ({ceiling['assumes']})", f"{ceiling['accuracy']:.3f}", "", "", "")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"trained on {facts['pairs']} pairs in {facts['steps']} steps of {facts['pairs_a_step']}, "
        f"{facts['too_long_pairs']} over {facts['max_length']} tokens; left out: {dict(left_out)}"
    )
    console.print(
        f"calibration error {held_out['calibration_error']:.3f}, Brier {held_out['brier']:.3f}, "
        f"ties {held_out['ties']}, abstained {held_out['abstained']}; "
        f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of processor time"
    )
    for row in held_out["calibration"]:
        console.print(
            f"  sure {row['low']:.2f} to {row['high']:.2f}: {row['n']} pairs, "
            f"predicted {row['predicted']:.3f}, observed {row['observed']:.3f}"
        )
    for note in facts["health"]:
        console.print(note)


def main() -> None:
    parser = argparse.ArgumentParser(description="A reward model on people's majority votes.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--limit", type=int, default=None, help="use so many rows, at random")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.monotonic()
    text = (args.data / "pandalm_human3.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    if args.limit is not None:
        rows = random.Random(args.seed).sample(rows, min(args.limit, len(rows)))
    left_out: Counter[str] = Counter()
    pairs = list(pairs_of(rows, args.seed, left_out))
    labels = LabelAgreement(agreement_of(rows), votes=len(ANNOTATORS))
    print(f"{len(pairs)} pairs; two people agree on {labels.agreement:.1%}", flush=True)
    show(train(pairs, labels, args), left_out, began)


if __name__ == "__main__":
    main()
