"""Tables about labelling: what is asked, how far it is, how well people agree."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from curation.agreement import Agreement
    from curation.annotator_warnings import AnnotatorRow
    from curation.argilla.pull import Pulled
    from curation.argilla.status import LabelStatus
    from curation.argilla.tasks import LabelPlan
    from curation.next_labels import LabelsNeeded
    from curation.proportions import Proportion
    from curation.resampling import Figure


def plan_views(plan: "LabelPlan") -> list[RenderableType]:
    """What would be asked of whom."""
    config = plan.config
    table = _table(
        ("workspace", "annotators", "records", "gold", "judgements", "each", "hours"), numbers=6
    )
    for row in plan.workspaces:
        table.add_row(
            row.workspace,
            *(str(number) for number in (row.annotators, row.records, row.gold, row.judgements)),
            f"{row.judgements_an_annotator:.0f}",
            f"{row.hours:.1f}",
        )
    total = Text(
        f"{plan.judgements} judgements on {len(plan.tasks)} records, {_overlaps(plan)} a record, "
        f"about {plan.hours:.1f} hours at {config.seconds_an_answer:g} s an answer; "
        f"{len(plan.new)} records are new"
    )
    left_out = [Text(f"not asked: {counted(plan.left_out)}")] if plan.left_out else []
    return [table, total, *left_out]


def account_views(passwords: Mapping[str, str], url: str) -> list[RenderableType]:
    """Accounts made just now; this is the one time that their passwords can be seen."""
    table = _table(("user name", "password"))
    for name, password in passwords.items():
        table.add_row(name, password)
    return [Text(f"accounts at {url}; note the passwords now, they are not kept"), table]


def status_views(status: "LabelStatus") -> list[RenderableType]:
    """How far the datasets and the annotators are."""
    heads = ("dataset", "workspace", "records", "complete", "answers needed", "submitted")
    datasets = _table((*heads, "drafts", "discarded", "to pull"), numbers=7)
    for row in status.datasets:
        numbers = (row.records, row.complete, row.answers_needed, row.submitted, row.drafts)
        datasets.add_row(
            row.dataset,
            row.workspace,
            *(str(number) for number in (*numbers, row.discarded, row.to_pull)),
        )
    people = _table(("annotator", "dataset", "submitted", "drafts", "discarded", "left"), numbers=4)
    for person in status.annotators:
        name = f"{person.annotator} (excluded)" if person.excluded else person.annotator
        left = (person.submitted, person.drafts, person.discarded, person.left)
        people.add_row(name, person.dataset, *(str(number) for number in left))
    absent = [
        Text(f"dataset '{name}' of workspace '{workspace}' is not on the server")
        for name, workspace in status.absent
    ]
    return [datasets, people, *absent]


def pulled_views(pulled: "Pulled") -> list[RenderableType]:
    """What a pull found."""
    outcomes = sorted(pulled.counts)
    table = _table(
        ("dataset", "workspace", "records", *(name.lower() for name in outcomes)),
        numbers=1 + len(outcomes),
    )
    for row in pulled.datasets:
        table.add_row(
            row.dataset,
            row.workspace,
            str(row.records),
            *(str(row.counts[name]) for name in outcomes),
        )
    return [table, *_warnings(pulled.warnings())]


def agreement_views(agreements: Mapping[str, "Agreement"]) -> list[RenderableType]:
    """How well people agree on each question, every figure with its 95% interval."""
    table = _table(("question", "items", "figure", "value", "95% interval"))
    warnings: list[str] = []
    for question, found in agreements.items():
        figures = {
            "percent agreement": found.percent,
            "with ties at half": found.tie_discounted,
            "Fleiss' kappa": found.fleiss,
            "Krippendorff's alpha": found.alpha_nominal,
            "the same, ordinal": found.alpha_ordinal,
        }
        for number, (name, figure) in enumerate(figures.items()):
            first = number == 0
            table.add_row(
                question if first else "",
                str(found.compared) if first else "",
                name,
                *_figure(figure),
            )
        warnings += found.warnings
    return [table, *_cohen(agreements), *_warnings(warnings)]


def annotator_views(rows: Sequence["AnnotatorRow"]) -> list[RenderableType]:
    """What each annotator's answers say about the annotator."""
    heads = ("annotator", "answers", "gold right", "like the rest", "first shown", "longer")
    table = _table((*heads, "ties", "s an answer"), numbers=7)
    for row in rows:
        style = "red" if row.suspect else ""
        shares = (row.agreement, row.first_shown, row.longer, row.ties)
        table.add_row(
            Text(f"{row.annotator} (excluded)" if row.excluded else row.annotator, style=style),
            str(row.answers),
            f"{row.gold.count} of {row.gold.of}" if row.gold.of else "-",
            *(_share(share) for share in shares),
            "-" if row.seconds is None else f"{row.seconds:.1f}",
        )
    return [
        table,
        *_warnings(f"{row.annotator}: {warning}" for row in rows for warning in row.warnings),
    ]


def needed_views(needed: Mapping[str, "LabelsNeeded"]) -> list[RenderableType]:
    """How many votes more it takes, as simulated from the votes so far."""
    table = _table(("votes more until", "about", "90% of simulations", "pairs done"), numbers=3)
    for goal, estimate in needed.items():
        table.add_row(
            goal,
            _votes(estimate.labels),
            "" if estimate.labels is None else f"{_votes(estimate.low)} to {_votes(estimate.high)}",
            f"{estimate.done} of {estimate.pairs}",
        )
    notes = dict.fromkeys(estimate.note for estimate in needed.values() if estimate.note)
    return [table, *(Text(note) for note in notes)]


def _votes(count: float | None) -> str:
    return "out of reach" if count is None else f"{count:.0f}"


def _overlaps(plan: "LabelPlan") -> str:
    """How many answers a record needs: `2`, or `1 to 3` where records differ."""
    wanted = sorted({task.overlap for task in plan.tasks}) or [plan.config.overlap]
    return str(wanted[0]) if len(wanted) == 1 else f"{wanted[0]} to {wanted[-1]}"


def _cohen(agreements: Mapping[str, "Agreement"]) -> list[RenderableType]:
    table = _table(("annotators", "question", "shared", "agree", "Cohen's kappa", "95% interval"))
    shown = [
        (question, pair) for question, found in agreements.items() for pair in found.pairs[:10]
    ]
    for question, pair in shown:
        table.add_row(
            f"{pair.first} and {pair.second}",
            question,
            str(pair.items),
            _number(pair.percent.value),
            *_figure(pair.cohen),
        )
    left = sum(max(0, len(found.pairs) - 10) for found in agreements.values())
    more = [Text(f"and {left} annotator pairs more (--json has all)")] if left else []
    return [table, *more] if shown else []


def _figure(figure: "Figure") -> tuple[str, str]:
    if figure.value is None:
        return "-", figure.why or ""
    if figure.low is None or figure.high is None:
        return _number(figure.value), figure.why or ""
    return _number(figure.value), f"{figure.low:.3f} to {figure.high:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(share: "Proportion") -> str:
    if share.share is None or share.low is None or share.high is None:
        return "-"
    return f"{share.share:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _warnings(sentences: Iterable[str]) -> list[RenderableType]:
    return [Text(f"! {sentence}", style="yellow") for sentence in sentences]


def counted(counts: Mapping[str, int]) -> str:
    """Each name after its number: `2 NO_ROOM, 5 TRUNCATED`."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _table(heads: Sequence[str], *, numbers: int = 0) -> Table:
    """A table without lines whose last `numbers` columns hold numbers."""
    table = Table(*heads, box=None, pad_edge=False)
    for column in table.columns[len(heads) - numbers :] if numbers else ():
        column.justify = "right"
    return table
