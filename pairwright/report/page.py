"""The report as one self-contained page: charts inline, no script, nothing fetched."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from dpo.summary import EvaluationRecord
from pairwright.report.figures import draw_charts
from pairwright.report.findings import Findings
from pairwright.report.finetuned_view import reward_facts, sft_facts, trained_facts
from pairwright.report.online_view import online_facts
from pairwright.written import compact_json, literal, number, share, signed
from schemas.records import Message

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATE = "run.html.jinja"
FEW_GOLD = 20
"""Gold pairs below which methods cannot be told apart: intervals are wider than a third."""
_SHOWN = 3
"""How many prompts of each sort are shown side by side."""


class Shown(NamedTuple):
    """One sort of prompts, with the answers of both policies."""

    title: str
    records: list[EvaluationRecord]


def environment() -> "Environment":
    """Where pages are rendered: templates beside this file, with numbers as readers see them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(
        signed=signed, number=number, share=share, literal=literal, json=compact_json
    )
    pages.filters["sentence"] = _sentence
    return pages


def render(found: Findings) -> str:
    """The page about these findings, which may be of an unfinished run."""
    template = environment().get_template(_TEMPLATE)
    page: str = template.render(
        found=found,
        name=literal(found.run.resolve().name),
        s=found.summary,
        charts=draw_charts(found),
        shown=_side_by_side(found.records),
        training=_training_facts(found),
        online=[] if found.online is None else online_facts(found.online),
        sft=[] if found.sft is None else sft_facts(found.sft),
        reward=[] if found.reward_model is None else reward_facts(found.reward_model),
        commands=_commands(found),
        packages=_packages(found),
        generate=found.facts("generate"),
        conversation=_conversation,
        read=_rows_read(found),
        few_gold=FEW_GOLD,
    )
    return page


def _side_by_side(records: Sequence[EvaluationRecord]) -> list[Shown]:
    """The largest gains, the largest losses, and some prompts drawn by a fixed seed."""
    scored = sorted(
        (record for record in records if record.gain is not None),
        key=lambda record: (record.gain or 0.0, record.prompt.id),
    )
    gains = [record for record in reversed(scored) if (record.gain or 0.0) > 0][:_SHOWN]
    losses = [record for record in scored if (record.gain or 0.0) < 0][:_SHOWN]
    drawn = Random(0).sample(records, min(_SHOWN, len(records)))
    sorts = [
        Shown("Largest gains", gains),
        Shown("Largest losses", losses),
        Shown("Drawn at random", drawn),
    ]
    return [shown for shown in sorts if shown.records]


def _training_facts(found: Findings) -> list[tuple[str, str]]:
    """What to say of a training, as terms and texts."""
    facts = found.facts("dpo")
    if not found.steps:
        return []
    losses = facts.get("loss_type") or []
    losses = losses if isinstance(losses, list) else [losses]
    last = found.steps[-1]
    method, precision = trained_facts(facts)
    return [
        ("Confidence", _confidence(facts)),
        (
            "Loss",
            f"{', '.join(map(str, losses)) or 'as configured'}, beta {facts.get('beta', '–')}",
        ),
        method,
        ("Steps", f"{len(found.steps):,} over {round(last.epoch, 2):g} epochs"),
        precision,
    ]


def _confidence(facts: dict[str, Any]) -> str:
    confidence = facts.get("confidence") or {}
    below, weighted = (
        confidence.get(key, 0) for key in ("pairs_below_one", "weights_other_than_one")
    )
    if confidence.get("used"):
        return (
            f"used: of {facts.get('pairs', 0)} pairs {below} have p_chosen below 1 and "
            f"{weighted} a weight other than 1"
        )
    if below or weighted:
        return f"not used, though {max(below, weighted)} pairs carry one"
    return "none to use: no pair carries one, so each counts in full"


def _sentence(text: str) -> str:
    """The remark as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def _rows_read(found: Findings) -> int | None:
    prompts = found.manifests.get("prompts")
    return None if prompts is None else prompts.counts.get("read")


def _commands(found: Findings) -> list[str]:
    run = shlex.quote(str(found.run))
    commands = [f"pairwright show {run}"]
    if found.pair_id is not None:
        commands.append(f"pairwright trace {run} {found.pair_id}")
    return commands


def _packages(found: Findings) -> dict[str, list[str]]:
    """Every version of each package that some stage ran under."""
    versions: dict[str, set[str]] = {}
    for manifest in found.manifests.values():
        for package, version in manifest.packages.items():
            versions.setdefault(package, set()).add(version)
    return {package: sorted(found) for package, found in sorted(versions.items())}


def _conversation(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Role and text of each turn; tool calls as JSON."""
    return [
        (
            message.role,
            "\n".join(
                part
                for part in (
                    message.reasoning_content,
                    message.content,
                    *(
                        compact_json(call.model_dump(exclude_none=True))
                        for call in message.tool_calls or ()
                    ),
                )
                if part
            ),
        )
        for message in messages
    ]
