"""The road from a reward's scores to a policy: no tie, swap, loss or wrong sign gets by."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairwright.plan import Plan
from pairwright.progress import Progress, Silent
from pairwright.road import make
from pairwright.selftest.laws import (
    Law,
    as_far_as_it_goes,
    dataset_laws,
    gate_laws,
    token_laws,
    training_laws,
)
from pairwright.selftest.planted import Opinions, Planted
from pairwright.selftest.planted_prompts import planted_prompts
from pairwright.selftest.planted_run import plant, planted_plan
from pairwright.stages.pipeline import Road
from schemas.records import Candidate, PreferencePair, Prompt
from schemas.run_folder import RunFolder

STRATEGIES = ("BestVsWorst", "BestVsRandom", "AllPairs", "MaxMin")


def examine_scores(
    folder: Path, progress: Progress, strategies: Sequence[str] = STRATEGIES
) -> Iterator[Law]:
    """The laws, each held against planted pairs under every strategy, as far as the road goes."""
    return as_far_as_it_goes(_laws(folder, progress, strategies), progress)


def _laws(folder: Path, progress: Progress, strategies: Sequence[str]) -> Iterator[Law]:
    planted = planted_prompts()
    opinions = Opinions(planted)
    for strategy in strategies:
        progress.line(f"selftest: scores, {strategy}")
        plan = _plan(folder, strategy, planted)
        plant(plan, planted)
        for stage in ("rank", "aggregate", "pair", "validate", "export"):
            make(Road(plan, Silent()), stage)
        yield from _road_laws(plan.run, planted, strategy)
        yield from dataset_laws(plan.run, opinions)
    yield from gate_laws(plan)
    yield from _file_laws(plan)
    progress.line("selftest: scores, dpo")
    yield from token_laws(plan, opinions)
    make(Road(plan, Silent()), "dpo")
    yield from training_laws(plan, opinions)


def _plan(folder: Path, strategy: str, planted: Sequence[Planted]) -> Plan:
    sections = {
        "rank": {"rewards": [{"use": "pairwright.selftest.planted:PlantedReward"}]},
        "pair": {"strategy": f"curation.pairs:{strategy}"},
    }
    return planted_plan(folder, folder / strategy, sections, planted)


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
