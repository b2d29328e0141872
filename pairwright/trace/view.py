"""A pair's history as a reader sees it in the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pairwright.trace.history import History, Side
from pairwright.written import literal
from schemas.records import Judgement, Prompt

_SHOWN = 240
"""Characters of a text that are shown."""


def history_view(history: History) -> RenderableType:
    """The road of one pair, one section a stage."""
    return Group(*_sections(history))


def shortened(text: str, limit: int = _SHOWN) -> str:
    line = literal(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[:limit]} ... ({len(text)} characters)"


def _sections(history: History) -> Iterator[RenderableType]:
    pair = history.pair
    yield Text(pair.id, style="bold")
    yield from section("prompt", prompt_lines(history.pair.prompt))
    yield from section("template", [_keys(history.template)])
    yield from section("sampling", _sampling_lines(history))
    yield Text("candidates", style="bold")
    yield Padding(_candidate_table(history.candidates), (0, 0, 0, 2))
    yield from section("judgements", list(_judgement_lines(history)))
    ranking = history.ranking
    yield from section(
        "ranking",
        [f"{ranking.method}: ranks {list(ranking.ranks)} of {len(ranking.candidates)} candidates"]
        if ranking
        else [],
    )
    yield from section(
        "pair",
        [
            f"strategy {pair.strategy}; margin {number(pair.margin)}, p_chosen "
            f"{number(pair.p_chosen)}, weight {number(pair.weight)}"
        ],
    )
    yield from section("gate", [_verdict(history)])
    yield from section("dataset", [_dataset(history)])
    yield from section("training", _training_lines(history))


def section(title: str, lines: list[str]) -> Iterator[RenderableType]:
    """A title with its lines under it."""
    yield Text(title, style="bold")
    for line in lines or ["nothing is stored"]:
        yield Padding(Text(line), (0, 0, 0, 2))


def prompt_lines(prompt: Prompt) -> list[str]:
    """Where the prompt is from and what it says."""
    lines = [f"{prompt.id} from {prompt.source or 'an unnamed source'}"]
    lines += [f"{turn.role}: {shortened(turn.content or '')}" for turn in prompt.messages]
    if prompt.tools:
        lines.append(f"tools: {len(prompt.tools)}")
    if prompt.tags:
        lines.append(f"tags: {', '.join(prompt.tags)}")
    return lines


def _sampling_lines(history: History) -> list[str]:
    origin = history.pair.rejected.origin
    return [
        f"model {origin.model}, weights {origin.weights}, template {origin.template}, "
        f"seed {origin.seed}",
        _keys(origin.sampling or history.sampling),
    ]


def _keys(value: Any) -> str:
    if not isinstance(value, dict):
        return "nothing is stored"
    stored = {key: item for key, item in value.items() if item not in ("", None, [], {})}
    return ", ".join(f"{key} {shortened(str(item), 60)}" for key, item in stored.items())


def _candidate_table(sides: tuple[Side, ...]) -> Table:
    table = Table("role", "rank", "score", "finish", "answer", box=None, pad_edge=False)
    for side in sides:
        completion = side.candidate.completion
        style = {"chosen": "green", "rejected": "red"}.get(side.role, "dim")
        table.add_row(
            Text(side.role, style=style),
            "" if side.rank is None else str(side.rank),
            number(side.score),
            completion.finish_reason or "",
            Text(shortened(completion.text)),
        )
    return table


def _judgement_lines(history: History) -> Iterator[str]:
    """The machines' judgements, and people's about both sides of the pair."""
    pair = history.pair
    sides = {pair.chosen.text_id: "chosen", pair.rejected.text_id: "rejected"}
    for item in history.judgements:
        if item.annotator.kind != "human" or set(sides) <= set(item.candidates):
            yield _judgement(item, sides)


def _judgement(item: Judgement, sides: Mapping[str, str]) -> str:
    scores = ", ".join(number(score) for score in item.scores or ())
    ranks = ", ".join(
        f"{sides.get(candidate, 'another')} {rank}"
        for candidate, rank in zip(item.candidates, item.ranks or (), strict=False)
    )
    given = f"scores {scores}" if item.scores is not None else f"ranks {ranks}"
    if item.both_bad:
        given = "all bad"
    unusual = [
        *([item.mode] if item.mode != "blind" else []),
        *([item.status] if item.status != "submitted" else []),
        *([f"change {item.revision}"] if item.revision else []),
    ]
    notes = f" ({', '.join(unusual)})" if unusual else ""
    because = f"; {shortened(item.rationale)}" if item.rationale else ""
    return (
        f"{item.annotator.kind} '{item.annotator.name}' on '{item.question}': "
        f"{given}{notes}{because}"
    )


def _verdict(history: History) -> str:
    verdict = history.verdict
    if verdict is None:
        return "the gate has not seen it"
    if verdict.passed:
        return f"passed, split {verdict.split}"
    return f"quarantined, {verdict.code}: {verdict.message}"


def _dataset(history: History) -> str:
    if history.dataset_split is None:
        return "in no dataset"
    row = history.dataset_row
    columns = ", ".join(key for key in row if row[key] is not None)
    return f"{history.dataset_split}.parquet, columns {columns}"


def _training_lines(history: History) -> list[str]:
    if not history.trained:
        return ["no policy has been trained"]
    if not history.steps:
        return ["no optimiser step had it"]
    return [
        f"step {step.step}, epoch {step.epoch:.2f}: loss {number(step.loss)}, "
        f"margin {number(step.margin)}"
        for step in history.steps
    ]


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
