"""Tables about a run: what its stages are, what they counted, which of them no longer hold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from pairwright.dry_run import Step
from pairwright.plan import Plan, Status
from pairwright.road import Made, counted
from schemas.run_folder import Manifest

_STATE_STYLES = {
    "complete": "green",
    "partial": "yellow",
    "stale": "red",
    "missing": "dim",
    "made": "green",
    "reused": "cyan",
}


class StageRow(NamedTuple):
    """One stage as tables and JSON show it."""

    stage: str
    state: str
    why: str
    counts: Mapping[str, int]
    reasons: Mapping[str, int]
    seconds: float | None
    health: Sequence[str] = ()
    """What a training found amiss, each note after its code; and why it was ended early."""


def run_rows(plan: Plan) -> list[StageRow]:
    """Every stage of the run, against the config in the plan; reads manifests only."""
    return [_row(plan.status(name, outside=False)) for name in plan.stages]


def made_rows(made: Sequence[Made]) -> list[StageRow]:
    """What the stages of a command came to."""
    rows = []
    for stage, outcome, manifest in made:
        if manifest is None:
            rows.append(StageRow(stage, outcome, "other shards have parts to make", {}, {}, None))
        else:
            rows.append(
                StageRow(
                    stage,
                    outcome,
                    "",
                    manifest.counts,
                    manifest.reasons,
                    manifest.seconds,
                    _health(manifest),
                )
            )
    return rows


def stage_table(rows: Sequence[StageRow]) -> Table:
    table = Table("stage", "state", "counts", "left the road", "seconds", box=None, pad_edge=False)
    table.columns[-1].justify = "right"
    for row in rows:
        table.add_row(
            row.stage,
            Text(row.state, style=_STATE_STYLES.get(row.state, ""))
            + Text(_because(row.why))
            + Text("".join(f"\n{note.partition(':')[0]}" for note in row.health), style="yellow"),
            Text(counted({key: n for key, n in row.counts.items() if ": " not in key})),
            Text(counted(row.reasons, names_first=False)),
            "" if row.seconds is None else f"{row.seconds:.1f}",
        )
    return table


def plan_table(steps: Sequence[Step]) -> Table:
    table = Table("stage", "would", "because", "work", box=None, pad_edge=False)
    for stage, action, why, amount in steps:
        table.add_row(stage, action, Text(why), amount)
    return table


def reason_table(reasons: Mapping[str, int], total: int) -> Table:
    """Why rows were kept out, most often first."""
    table = Table("reason", "rows", "share", box=None, pad_edge=False)
    for code, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(code, str(count), f"{count / total:.1%}" if total else "")
    return table


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _row(status: Status) -> StageRow:
    manifest = status.manifest
    if manifest is None:
        return StageRow(status.stage, status.state, "", {}, {}, None)
    return StageRow(
        status.stage,
        status.state,
        status.why,
        manifest.counts,
        manifest.reasons,
        manifest.seconds if manifest.state == "complete" else None,
        _health(manifest),
    )


def _health(manifest: Manifest) -> tuple[str, ...]:
    facts = manifest.facts if isinstance(manifest.facts, dict) else {}
    stopped = facts.get("stopped")
    ended = (f"STOPPED: {stopped}",) if stopped else ()
    return (*(facts.get("health") or ()), *ended)
