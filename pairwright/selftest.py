"""Pairs with a known winner, sent down the whole road: no tie, swap, loss or wrong sign gets by.

The stages are the ones that every run uses; only the sampling is left out, as what is planted
stands for it.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from pairwright.pipeline import Road
from pairwright.plan import Plan
from pairwright.planted import Planted, planted_prompts
from pairwright.progress import Progress, Silent
from pairwright.road import make
from schemas.arrow import to_table
from schemas.configs import Config, parse_config
from schemas.records import Candidate, PairProposal, PreferencePair, Prompt
from schemas.run_folder import RunFolder

_STRATEGIES = ("BestVsWorst", "BestVsRandom", "AllPairs", "MaxMin")


class Law(NamedTuple):
    """Something that must hold on the road, and how often it did."""

    law: str
    held: int
    seen: int

    @property
    def holds(self) -> bool:
        return self.held == self.seen > 0


def examine_road(progress: Progress, reward: str = "pairwright.planted:PlantedReward") -> list[Law]:
    """The laws, each held against planted pairs under every strategy."""
    planted = planted_prompts()
    found: list[Law] = []
    with tempfile.TemporaryDirectory(prefix="pairwright-selftest-") as name, _one_thread():
        folder = Path(name)
        _write_inputs(folder, planted)
        for strategy in _STRATEGIES:
            progress.line(f"selftest: {strategy}")
            plan = _plan(folder, strategy, reward)
            _make_up_to_dataset(plan, planted)
            found += _road_laws(plan.run, planted, strategy)
            found += _dataset_laws(plan.run)
        found += _gate_laws(plan)
        found += _file_laws(plan)
        progress.line("selftest: DPO")
        make(Road(plan, Silent()), "dpo")
        found += _training_laws(plan.run)
    held: dict[str, Law] = {}
    for law, right, total in found:
        before = held.get(law, Law(law, 0, 0))
        held[law] = Law(law, before.held + right, before.seen + total)
    return list(held.values())


def laws_table(laws: Sequence[Law]) -> Table:
    table = Table("law", "holds", "seen", box=None, pad_edge=False)
    for law in laws:
        mark = Text("yes", style="green") if law.holds else Text("NO", style="bold red")
        table.add_row(law.law, mark, f"{law.held} of {law.seen}")
    return table


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A scope in which torch uses one thread: more only get in each other's way on a tiny model."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_inputs(folder: Path, planted: Sequence[Planted]) -> None:
    from curation.tiny import build_tiny_model

    build_tiny_model(folder / "model")
    lines = [json.dumps(item.row(), ensure_ascii=False) for item in planted]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _plan(folder: Path, strategy: str, reward: str) -> Plan:
    data = {
        "run": str(folder / strategy),
        "model": {"path": str(folder / "model"), "device": "cpu"},
        "prompts": [{"path": str(folder / "prompts.jsonl")}],
        "rank": {"rewards": [{"use": reward}]},
        "pair": {"strategy": f"curation.pairs:{strategy}"},
        "validate": {"test_share": 0.2},
        "dpo": {
            "lora": None,
            "trainer": {
                "max_steps": 12,
                "per_device_train_batch_size": 8,
                "learning_rate": 1e-3,
                "lr_scheduler_type": "constant",
            },
        },
    }
    config = parse_config(data, as_=Config, where="selftest")
    return Plan(config, RunFolder(config.run))


def _make_up_to_dataset(plan: Plan, planted: Sequence[Planted]) -> None:
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
    for stage in ("rank", "aggregate", "pair", "validate", "export"):
        make(road, stage)


def _road_laws(run: RunFolder, planted: Sequence[Planted], strategy: str) -> Iterator[Law]:
    by_prompt = {item.prompt.id: item for item in planted}
    prompts = {prompt.id: _asks(prompt) for prompt in run.stage("prompts").read(Prompt)}
    same = sum(prompts.get(key) == _asks(item.prompt) for key, item in by_prompt.items())
    yield Law("prompts are stored as written", same, len(planted))
    answers = {item.id: item for item in run.stage("generate").read(Candidate)}
    same = sum(answers.get(one.id) == one for item in planted for one in item.candidates)
    yield Law("answers are stored as written", same, len(answers))

    pairs = list(run.stage("validate").read(PreferencePair))
    right = sum(_better(by_prompt[pair.prompt.id], pair) for pair in pairs)
    yield Law("chosen has the better score", right, len(pairs))
    if strategy != "AllPairs":
        best = sum(pair.chosen.text_id in by_prompt[pair.prompt.id].winners for pair in pairs)
        yield Law("chosen is a best answer of its prompt", best, len(pairs))
    paired = {pair.prompt.id for pair in pairs}
    tied = {key for key, item in by_prompt.items() if not item.has_pair}
    yield Law("a prompt whose scores tie has no pair", len(tied - paired), len(tied))
    contrasted = by_prompt.keys() - tied
    yield Law("a prompt whose scores differ has one", len(contrasted & paired), len(contrasted))

    counts = {name: stage.completed().counts for name, stage in run.stages().items()}
    pair, gate = counts["pair"], counts["validate"]
    sums = [
        pair["prompts"] == len(paired) + pair["unpaired_prompts"],
        pair["candidates"] == pair["used_candidates"] + pair["unused_candidates"],
        pair["proposals"] == gate["in"],
        gate["in"] == gate["out"] + gate["quarantined"],
        gate["out"] == len(pairs) == counts["export"]["in"],
    ]
    yield Law("every stage's account adds up", sum(sums), len(sums))


def _dataset_laws(run: RunFolder) -> Iterator[Law]:
    from curation.formats.trl import dataset_row, read_dataset

    pairs = list(run.stage("validate").read(PreferencePair))
    dataset = read_dataset(run.stage("export").folder)
    rows = {(split, row["pair_id"]): row for split, found in dataset.items() for row in found}
    same = sum(rows.get((pair.split, pair.id)) == dataset_row(pair) for pair in pairs)
    yield Law("the dataset reads back as the pairs", same, len(rows))
    splits: dict[str, set[str]] = {}
    for pair in pairs:
        splits.setdefault(pair.prompt.group, set()).add(pair.split)
    yield Law("no prompt is in both splits", sum(map(len, splits.values())), len(splits))


def _gate_laws(plan: Plan) -> Iterator[Law]:
    """A pair that meets its own reverse is kept out with it; so is one that is none."""
    from curation.validation.gate import Gate, rows_from_proposals

    proposals = list(plan.run.stage("pair").read(PairProposal))
    swapped = [_changed(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in proposals]
    gate = Gate(plan.config.gate, seed=plan.config.seed)
    result = gate.run(rows_from_proposals([*proposals, *swapped]))
    kept_out = sum(row.code == "CONTRADICTION" for row in result.quarantined)
    yield Law("a pair and its reverse are quarantined", kept_out, 2 * len(proposals))
    ties = gate.run(rows_from_proposals(_changed(pair, margin=0.0) for pair in proposals))
    yield Law("a pair without a margin is quarantined", len(ties.quarantined), len(proposals))


def _file_laws(plan: Plan) -> Iterator[Law]:
    """Pairs that leave as JSON lines and come back through the gate for files."""
    from curation.validation.gate import Gate, rows_from_file

    pairs = list(plan.run.stage("validate").read(PreferencePair))
    file = plan.run.path / "pairs.jsonl"
    file.write_text("".join(json.dumps(_as_line(pair)) + "\n" for pair in pairs))
    result = Gate(plan.config.gate, seed=plan.config.seed).run(rows_from_file(file))
    sides = {(pair.chosen.text_id, pair.rejected.text_id) for pair in pairs}
    same = sum((pair.chosen.text_id, pair.rejected.text_id) in sides for pair in result.pairs)
    yield Law("pairs survive a JSONL file", same, len(pairs))


def _training_laws(run: RunFolder) -> Iterator[Law]:
    """DPO must make chosen likelier than rejected, not the other way round."""
    from dpo.step_log import StepRecord

    steps = list(run.stage("dpo").read(StepRecord))
    first, last = steps[0], steps[-1]
    yield Law("DPO starts at its reference", int(abs(first.rewards_margin or 0) < 1e-4), 1)
    learned = (last.rewards_margin or 0) > 0 and last.loss < first.loss
    yield Law("DPO prefers the planted winners", int(learned), 1)
    named = {pair_id for step in steps for pair_id in step.pair_ids}
    pairs = run.stage("validate").read(PreferencePair)
    trained = {pair.id for pair in pairs if pair.split == "train"}
    yield Law("the step log names every training pair", len(named & trained), len(trained))


def _changed(pair: PairProposal, **fields: Any) -> PairProposal:
    """The proposal with other fields, under the id that these give it."""
    old = {name: getattr(pair, name) for name in PairProposal.model_fields}
    return PairProposal(**{**old, "id": "", **fields})


def _better(item: Planted, pair: PreferencePair) -> bool:
    chosen, rejected = (
        item.score_of(pair.chosen.text_id),
        item.score_of(pair.rejected.text_id),
    )
    return chosen is not None and rejected is not None and chosen > rejected


def _asks(prompt: Prompt) -> list[Any]:
    return [prompt.message_dicts(), prompt.tools]


def _as_line(pair: PreferencePair) -> dict[str, Any]:
    line = {
        "prompt": pair.prompt.message_dicts(),
        "chosen": pair.chosen.completion.message_dicts(),
        "rejected": pair.rejected.completion.message_dicts(),
    }
    return line if pair.prompt.tools is None else {**line, "tools": pair.prompt.tools}
