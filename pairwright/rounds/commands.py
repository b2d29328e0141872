"""What `pairwright rounds` does, and what `show` and `report` do with a folder of rounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pairwright.dry_run import planned_steps
from pairwright.output import Output
from pairwright.progress import Progress
from pairwright.road import Made, check_road
from pairwright.rounds.figures import (
    RoundFigures,
    RoundsFindings,
    find_rounds,
    goes_on,
    read_rounds,
)
from pairwright.rounds.loop import Rounds, make_rounds, open_rounds, round_states
from pairwright.rounds.report import to_json, write_rounds_report
from pairwright.show import plan_table
from pairwright.written import number, share, signed


def run_rounds(
    config: Path,
    overrides: Sequence[str] | None,
    run: Path | None,
    limit: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        rounds = open_rounds(config, overrides or (), run=run, limit=limit)
        if not dry_run:
            progress = Progress()
            made = _make(rounds, progress)
            report = write_rounds_report(made)
    if dry_run:
        _print_plan(output, rounds)
        return
    output.result(
        {**_data(made), "report": {"html": str(report.html), "json": str(report.json)}},
        *_views(made),
        Text(f"report: {report.html}"),
    )


def show_rounds(folder: Path, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with output.working():
        found = read_rounds(folder)
    output.result(_data(found), *_views(found))


def report_rounds(folder: Path, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with output.working():
        report = write_rounds_report(read_rounds(folder))
    output.result(
        {"html": str(report.html), "json": str(report.json)},
        Text(f"{report.html}\n{report.json}"),
    )


def _make(rounds: Rounds, progress: Progress) -> RoundsFindings:
    """The rounds, each but the last told in a table as it ends, unless all of it was there."""

    def after_round(ended: int, made: Sequence[Made]) -> bool:
        found = find_rounds(rounds, last=ended)
        follows = ended < rounds.most and goes_on(rounds, found.rounds[-1])
        if follows and any(stage.outcome != "reused" for stage in made):
            progress.console.print(gains_table(found), highlight=False)
        if not follows and ended < rounds.most:
            progress.line(f"round {ended} gained nothing clear, so no further round is made")
        return follows

    make_rounds(rounds, progress, after_round)
    return find_rounds(rounds)


def _print_plan(output: Output, rounds: Rounds) -> None:
    """What the next round would do, or the last where none follows, and how many there are."""
    with output.working():
        following = _next_round(rounds)
        plan = rounds.plan(following)
        steps = planned_steps(plan, check_road(plan))
    until = rounds.config.rounds.until_no_gain
    times = f"at most {rounds.most}, until one gains nothing clear" if until else rounds.most
    output.result(
        {
            "run": str(rounds.folder),
            "rounds": rounds.most,
            "until_no_gain": until,
            "next": following,
            "plan": [step._asdict() for step in steps],
        },
        Text(f"rounds: {times}; round {following} would do:"),
        plan_table(steps),
    )


def _next_round(rounds: Rounds) -> int:
    """The first round that is not complete; the last one where the rounds have ended."""
    for item in round_states(rounds):
        if item.state != "complete":
            found = find_rounds(rounds) if item.number > 1 else None
            return len(found.rounds) if found is not None and found.stopped else item.number
    return rounds.most


def _data(found: RoundsFindings) -> dict[str, Any]:
    return {"run": str(found.folder), **to_json(found)}


def _views(found: RoundsFindings) -> list[Table | Text]:
    return [
        gains_table(found),
        Text(""),
        work_table(found),
        Text(""),
        Text(f"{found.verdict.headline} {found.verdict.detail}"),
        *(Text(f"! {text}", style="yellow") for text in found.warnings),
    ]


def gains_table(found: RoundsFindings) -> Table:
    """What each round's policy is worth, the first model before them."""
    table = Table("round", "state", box=None, pad_edge=False)
    _add_numbers(table, "reward", "gain", "KL to first", "tokens")
    tokens = number(found.first_tokens, 0)
    table.add_row("start", "", number(found.first.mean if found.first else None), "", "", tokens)
    for row in found.rounds:
        kl = row.kl_to_first
        table.add_row(
            str(row.number),
            row.state,
            number(row.reward.mean if row.reward else None),
            _gain(row),
            number(kl.mean if kl else None, 3),
            number(row.tokens, 0),
        )
    return table


def work_table(found: RoundsFindings) -> Table:
    """What each round had to work with."""
    table = Table("round", box=None, pad_edge=False)
    people = ("labels", "alpha") if found.asks_people else ()
    _add_numbers(table, "distinct-2", "ties", *people, "pairs", "quarantined", "seconds")
    for row in found.rounds:
        alpha = row.agreement.value if row.agreement else None
        table.add_row(
            str(row.number),
            number(row.distinct_2),
            share(row.ties),
            *((_count(row.labels), number(alpha)) if people else ()),
            _count(row.pairs),
            _count(row.quarantined),
            f"{row.seconds:.0f}",
        )
    return table


def _add_numbers(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, justify="right")


def _gain(row: RoundFigures) -> str:
    gain = row.gain
    if gain is None or gain.low is None:
        return signed(gain.mean if gain else None)
    return f"{signed(gain.mean)} ({signed(gain.low)} to {signed(gain.high)})"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
