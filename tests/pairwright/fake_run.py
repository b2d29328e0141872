"""Runs whose stages hold what a report needs and no more, and what their reports say."""

import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

from dpo.step_log import StepRecord
from dpo.summary import EvaluationRecord, Sample, summarise
from pairwright.report.write import write_report
from schemas.arrow import to_table
from schemas.configs import EvaluateConfig
from schemas.records import (
    Candidate,
    Completion,
    Instruction,
    Judgement,
    Message,
    Origin,
    PairProposal,
    PreferencePair,
    Prompt,
    Ranking,
    Record,
)
from schemas.run_folder import RunFolder

TEMPLATE = {
    "hash": "8d1f1a0c5e7b44a2b9d0",
    "supports_system": True,
    "eos": "<|im_end|>",
    "bos": None,
}
SAMPLING = {"temperature": 0.9, "top_p": 1.0, "max_new_tokens": 96}
CONFIDENCE = {"used": False, "requested": True, "pairs_below_one": 0, "weights_other_than_one": 0}
DPO_FACTS = {
    "confidence": CONFIDENCE,
    "loss_type": ["sigmoid"],
    "beta": 0.1,
    "pairs": 6,
    "method": "lora",
    "trainable_parameters": 4_884_480,
    "parameters": 139_399_488,
    "precision": "torch.float32",
    "device": "cpu",
    "train_seconds": 161.8,
    "reference": {"model": "the policy's start", "cache_hit": True},
    "health": [],
}
ROAD: dict[str, tuple[type[Record], dict[str, int], dict[str, int], Any]] = {
    "prompts": (Prompt, {"read": 15, "prompts": 12}, {"DUPLICATE_PROMPT": 3}, None),
    "generate": (
        Candidate,
        {"prompts": 12, "samples": 48, "candidates": 36, "truncated": 1},
        {},
        {"template": TEMPLATE, "weights": "3f1c0a9d", "model": "small", "sampling": SAMPLING},
    ),
    "rank": (Judgement, {"candidates": 36, "judgements": 12}, {}, None),
    "aggregate": (Ranking, {"judgements": 12, "rankings": 12}, {}, None),
    "pair": (
        PairProposal,
        {"prompts": 12, "unpaired_prompts": 2, "candidates": 36, "used_candidates": 20,
         "proposals": 10},
        {"TIE": 2},
        {"unused": {"TIE": 6, "NOT_CHOSEN": 10}},
    ),
    "validate": (
        PreferencePair,
        {"in": 10, "out": 8, "quarantined": 2, "train": 6, "test": 2},
        {"TRUNCATED_CANDIDATE": 2},
        None,
    ),
    "export": (PreferencePair, {"in": 8, "train": 6, "test": 2}, {}, None),
}  # fmt: skip
"""What each stage stores before training: the class of its records, counts, reasons, facts."""


class FakeRun:
    """Writes one stage after the other, each made from all those before."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder)

    def write(
        self,
        name: str,
        record: type[BaseModel],
        records: Sequence[BaseModel] = (),
        *,
        counts: Mapping[str, int],
        reasons: Mapping[str, int] | None = None,
        facts: Any = None,
        **config: Any,
    ) -> None:
        inputs = {before: stage.digest() for before, stage in self.run.stages().items()}
        inputs.pop(name, None)
        writer = self.run.stage(name).begin(config={"seed": 0, **config}, inputs=inputs, parts=1)
        writer.commit(0, to_table(records, record))
        writer.finish(counts=counts, reasons=reasons, facts=facts)

    def curation(self, through: str = "export") -> None:
        for name, (record, counts, reasons, facts) in ROAD.items():
            self.write(name, record, counts=counts, reasons=reasons, facts=facts)
            if name == through:
                return

    def training(self, **facts: Any) -> None:
        """Three epochs of two steps."""
        steps = [
            StepRecord(
                step=number,
                epoch=number / 2,
                loss=0.75 - number / 16,
                rewards_margin=None if number == 1 else 0.1 * number,
                rewards_accuracy=0.5 + 0.05 * number,
                pair_ids=tuple(f"pair-{pair}" for pair in range(number % 2, 6, 2)),
            )
            for number in range(1, 7)
        ]
        counts = {"steps": len(steps)}
        self.write("dpo", StepRecord, steps, counts=counts, facts={**DPO_FACTS, **facts})

    def evaluation(self, records: Sequence[EvaluationRecord] | None = None) -> None:
        records = make_records(24) if records is None else records
        config = EvaluateConfig(resamples=200)
        summary = summarise(records, config, seed=0, train_prompts=[])
        self.write(
            "evaluate",
            EvaluationRecord,
            records,
            counts={"prompts": len(records), "quarantined": 1},
            reasons={"TRAINED_ON": 1},
            facts=summary.model_dump(mode="json"),
            rewards=[{"use": "curation.rewards:rule", "name": None, "weight": 1.0, "args": {}}],
        )


def make_prompt(text: str, *kinds: str) -> Prompt:
    return Prompt(
        messages=(Message(role="user", content=text),),
        instructions=tuple(Instruction(name=kind) for kind in kinds),
    )


def make_sample(
    of: Prompt, text: str, reward: float, *, tokens: int = 40, kl: float | None = None
) -> Sample:
    completion = Completion.from_text(text, token_ids=tuple(range(tokens)), finish_reason="stop")
    origin = Origin(generator="transformers")
    return Sample(
        candidate=Candidate(prompt_id=of.id, completion=completion, origin=origin),
        reward=reward,
        components={"rule": reward, "brevity": 0.5},
        tokens=tokens,
        kl=kl,
    )


def make_records(count: int) -> list[EvaluationRecord]:
    """A gain of about 0.3 and about 3 tokens less."""
    rng = Random(0)
    records = []
    for number in range(count):
        prompt = make_prompt(f"question {number}", ("no_commas", "bullets")[number % 2])
        before, tokens = rng.uniform(0, 0.5), rng.randrange(30, 60)
        after, shorter = before + rng.gauss(0.3, 0.1), max(1, tokens - rng.randrange(7))
        records.append(
            EvaluationRecord(
                prompt=prompt,
                base=(make_sample(prompt, "before", before, tokens=tokens),),
                policy=(make_sample(prompt, "after", after, tokens=shorter, kl=rng.random() / 9),),
            )
        )
    return records


class Page(HTMLParser):
    """What a page consists of: tags, ids, links, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._hidden = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden += tag == "style"
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("href", "src", "xlink:href", "action"):
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def report_of(run: RunFolder) -> tuple[Page, dict[str, Any]]:
    report = write_report(run, run.path)
    data: dict[str, Any] = json.loads(report.json.read_text())
    return Page(report.html.read_text(encoding="utf-8")), data
