"""What the stage `rank` says of itself: counts and facts drawn from its files."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc

from pairwright.stages.asked import usage_of
from pairwright.stored import columns, row_count
from schemas.arrow import from_table
from schemas.records import Judgement, Record
from schemas.run_folder import Stage


class UnrankedPrompt(Record):
    """A prompt about which a judge's verdicts conclude nothing."""

    prompt_id: str
    reason: str


def of_scores(stage: Stage, candidates: int) -> dict[str, Any]:
    """Counts of scores; facts where a server was asked for them."""
    table = columns(stage, ["question", "scores"])
    overall = table.filter(pc.field("question") == "overall")
    counts = {
        "candidates": candidates,
        "judgements": table.num_rows,
        "abstained": pc.list_flatten(overall["scores"]).null_count,
    }
    usage = usage_of(stage)
    return {"counts": counts, "facts": None if usage is None else {"usage": usage}}


def of_comparisons(stage: Stage, candidates: int) -> dict[str, Any]:
    """Counts of a judge's comparisons, and how far the place shown swayed it."""
    from curation.judged import Orders, abstained, compare_orders

    orders, reasons = Orders(), Counter[str]()
    for table in stage.tables():
        judgements = from_table(table, Judgement)
        orders = orders.plus(compare_orders(judgements))
        reasons += abstained(judgements)
    counts = {
        "candidates": candidates,
        "judgements": row_count(stage),
        "abstained": reasons.total(),
        "pairs": orders.pairs,
        "position_flips": orders.flipped,
    }
    facts: dict[str, Any] = {
        "position_flips": orders.flip_share,
        "first_shown_wins": orders.first_share,
        "orders": orders._asdict(),
        "abstained": dict(sorted(reasons.items())),
    }
    usage = usage_of(stage)
    return {"counts": counts, "facts": facts if usage is None else {**facts, "usage": usage}}
