"""What each `label` command does."""

import webbrowser
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import RenderableType
from rich.text import Text

from curation.posteriors import Pair
from curation.votes import counted_judgements, votes_of
from curation.voting import aggregate_votes, one_vote_each
from pairwright import labelling
from pairwright.label_views import (
    account_views,
    agreement_views,
    annotator_views,
    needed_views,
    plan_views,
    pulled_views,
    status_views,
)
from pairwright.output import Output
from pairwright.pipeline import Road
from pairwright.plan import Plan
from pairwright.progress import Progress
from pairwright.road import keep_config, needs_complete, open_plan
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask, Purpose
from schemas.records import Judgement

if TYPE_CHECKING:
    from curation.argilla.client import Client
    from curation.argilla.server.stack import Started
    from curation.argilla.tasks import LabelPlan

ADJUDICATION: Literal["adjudication"] = "adjudication"
"""The purpose, the workspace and the end of the dataset's name."""


def serve(
    config: Path | None,
    overrides: Sequence[str] | None,
    run: Path | None,
    *,
    home: Path | None,
    port: int | None,
) -> None:
    from curation.argilla.server.stack import serve as serve_argilla

    output, progress = Output(as_json=False), Progress()
    plan = None if config is None else _open(config, overrides, run)

    def ready(server: "Started") -> None:
        passwords = {one.username: one.password for one in server.accounts if one.password}
        page = server.url
        if plan is not None:
            from curation.argilla.client import Client

            road = Road(plan, progress)
            with Client(server.url, server.api_key) as client:
                asked = labelling.plan_of_run(plan)
                passwords |= labelling.push_plan(road, client, asked).passwords
                page = _page(client, asked)
        views: list[RenderableType] = [*account_views(passwords, server.url)] if passwords else []
        output.result(None, *views, Text(f"Argilla is at {page}; Ctrl-C stops it"))
        webbrowser.open(page)

    serve_argilla(home, port, progress=progress.line, ready=ready)


def password(name: str, home: Path | None, *, as_json: bool) -> None:
    from curation.argilla.server.accounts import reset_password
    from curation.argilla.server.home import running

    server = running(home)
    if server is None:
        raise ConnectionError("no labelling server runs; start it with `pairwright label serve`")
    made = reset_password(server.url, server.api_key, name).password or ""
    output = Output(as_json=as_json)
    output.result({"annotator": name, "password": made}, *account_views({name: made}, server.url))


def plan(config: Path, overrides: Sequence[str] | None, run: Path | None, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with output.working():
        asked = labelling.plan_of_run(_open(config, overrides, run))
    output.result(_plan_data(asked), *plan_views(asked))


def push(
    config: Path,
    overrides: Sequence[str] | None,
    run: Path | None,
    *,
    following: int | None,
    as_json: bool,
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        plan = _open(config, overrides, run)
        asked = labelling.plan_of_run(plan) if following is None else _next(plan, following)
    _push(output, plan, asked)


def adjudicate(
    config: Path,
    overrides: Sequence[str] | None,
    run: Path | None,
    limit: int | None,
    *,
    as_json: bool,
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        plan = _open(config, overrides, run)
        asked = _disputed(plan, limit)
    _push(output, plan, asked)


def status(
    config: Path,
    overrides: Sequence[str] | None,
    run: Path | None,
    *,
    width: float,
    as_json: bool,
) -> None:
    from curation.argilla.status import status as status_on_server
    from curation.next_labels import labels_until_decided, labels_until_width

    output = Output(as_json=as_json)
    with output.working():
        plan = _open(config, overrides, run)
        store = plan.annotations
        road, asked = Road(plan, Progress()), labelling.label_config(plan)
        with labelling.labelling_server(road, asked) as client:
            found = status_on_server(client, store, datasets=labelling.own_datasets(plan))
        so_far = labelling.agreement_so_far(plan)
        voted = [item for item in _counted(plan) if item.purpose == "label"]
        votes = one_vote_each(votes_of(voted))
        needed = {
            "80% of pairs decided at 90% certainty": labels_until_decided(votes),
            f"80% of pairs known to a width of {width:g}": labels_until_width(votes, width=width),
        }
    data = {
        "datasets": [row._asdict() for row in found.datasets],
        "annotators": [row._asdict() for row in found.annotators],
        "needs_more": found.needs_more,
        **so_far.data(),
        "labels_needed": {goal: estimate._asdict() for goal, estimate in needed.items()},
    }
    views = status_views(found)
    if so_far.annotators:
        views += agreement_views(so_far.questions) + annotator_views(so_far.annotators)
        views += needed_views(needed)
    output.result(data, *views)


def pull(config: Path, overrides: Sequence[str] | None, run: Path | None, *, as_json: bool) -> None:
    from curation.argilla.pull import pull as pull_from_server

    output = Output(as_json=as_json)
    with output.working():
        plan = _open(config, overrides, run)
        road = Road(plan, Progress())
        with labelling.labelling_server(road, labelling.label_config(plan)) as client:
            pulled = pull_from_server(
                client, plan.annotations, datasets=labelling.own_datasets(plan)
            )
        with plan.run.writing():
            keep_config(plan)
            manifest = labelling.freeze_labels(road)
    data = {
        "datasets": [{**row._asdict(), "counts": dict(row.counts)} for row in pulled.datasets],
        "unreadable": [row._asdict() for row in pulled.unreadable],
        "missing": [row._asdict() for row in pulled.missing],
        "warnings": pulled.warnings(),
        "label": manifest.counts,
    }
    counts = ", ".join(f"{name} {number}" for name, number in manifest.counts.items())
    output.result(data, *pulled_views(pulled), Text(f"stage label: {counts}"))


def suggest(
    config: Path, overrides: Sequence[str] | None, run: Path | None, *, as_json: bool
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        plan = _open(config, overrides, run)
        needs_complete(plan, "rank")
        road = Road(plan, Progress())
        with labelling.labelling_server(road, labelling.label_config(plan)) as client:
            done = labelling.attach_rankings(road, client)
    output.result(
        {"attached": done.attached, "left_out": dict(done.left_out)},
        Text(f"{done.attached} suggestions attached"),
    )


def decide(
    config: Path,
    overrides: Sequence[str] | None,
    annotator: str,
    action: Literal["exclude", "include"],
    reason: str,
    *,
    as_json: bool,
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        plan = open_plan(config, overrides or (), run=None, limit=None)
        store = plan.annotations
        names = {item.annotator.name for item in store.judgements.read()}
        if annotator not in names:
            raise ValueError(
                f"no answer of '{annotator}' is in '{store.folder}'; expected one of "
                f"{', '.join(sorted(names)) or 'those that `pairwright label pull` fetches'}"
            )
        store.decide(annotator, action, reason)
    counted = "no longer count" if action == "exclude" else "count again"
    output.result(
        {"annotator": annotator, "action": action, "reason": reason},
        Text(f"the votes of {annotator} {counted}; `pairwright run` makes what depends on them"),
    )


def _open(config: Path, overrides: Sequence[str] | None, run: Path | None) -> Plan:
    """The plan of a run that has candidates to ask about."""
    plan = open_plan(config, overrides or (), run=run, limit=None)
    labelling.label_config(plan)
    needs_complete(plan, "generate")
    return plan


def _next(plan: Plan, count: int) -> "LabelPlan":
    """The pairs on which one more vote should tell most, for people who have not seen them."""
    from curation.next_labels import next_pairs

    given, asked = _counted(plan), _asked_pairs(plan)
    votes = one_vote_each(votes_of(item for item in given if item.purpose == "label"))
    found = next_pairs(votes, count, unvoted=asked)
    return _follow_up(plan, [item.pair for item in found], "label")


def _disputed(plan: Plan, limit: int | None) -> "LabelPlan":
    """The pairs that people disagree on, for the adjudicators."""
    from curation.next_labels import disagreements

    config = labelling.label_config(plan)
    if not config.adjudicators:
        raise ValueError(
            "the config names no label.adjudicators; expected the user names of those whose "
            "answer decides"
        )
    given = _counted(plan)
    rulings = votes_of(item for item in given if item.purpose == "adjudication")
    votes = one_vote_each(votes_of(item for item in given if item.purpose == "label"))
    verdicts = aggregate_votes(votes, adjudications=one_vote_each(rulings)).pairs
    room = WorkspaceConfig(annotators=config.adjudicators)
    theirs = config.model_copy(update={"workspaces": {ADJUDICATION: room}})
    return _follow_up(plan, disagreements(verdicts)[:limit], ADJUDICATION, theirs)


def _follow_up(
    plan: Plan,
    pairs: Sequence[Pair],
    purpose: Purpose,
    config: LabelConfig | None = None,
) -> "LabelPlan":
    from curation.argilla.tasks import follow_up_tasks

    tasks = labelling.own_tasks(plan)
    known = {one.text_id: (task.prompt, one) for task in tasks for one in task.candidates}
    answered = defaultdict(set)
    for vote in votes_of(plan.annotations.judgements.read()):
        answered[vote.pair].add(vote.annotator)
    return follow_up_tasks(
        config or labelling.label_config(plan),
        [(known[left][0], known[left][1], known[right][1]) for _, left, right in pairs],
        {} if config else answered,
        plan.annotations.tasks.read(),
        seed=plan.config.seed,
        purpose=purpose,
        suffix=purpose if purpose == ADJUDICATION else _next_suffix(tasks),
    )


def _next_suffix(tasks: Sequence[LabelTask]) -> str:
    """`next-2` where the datasets before end in `next-1`."""
    found = (task.dataset.rpartition("-next-")[2] for task in tasks if "-next-" in task.dataset)
    return f"next-{1 + max((int(number) for number in found if number.isdigit()), default=0)}"


def _asked_pairs(plan: Plan) -> list[Pair]:
    """Each two candidates that were put before people, but for gold questions."""
    return [
        (task.prompt.id, left, right)
        for task in labelling.own_tasks(plan)
        if task.purpose == "label"
        for left, right in combinations(sorted(task.shown), 2)
    ]


def _counted(plan: Plan) -> list[Judgement]:
    """The answers to the config's own datasets that count."""
    store = plan.annotations
    about = {task.id for task in labelling.own_tasks(plan)}
    return counted_judgements(
        (item for item in store.judgements.read() if item.task_id in about),
        question=plan.config.aggregate.question,
        excluded=store.excluded(),
    ).kept


def _push(output: Output, plan: Plan, asked: "LabelPlan") -> None:
    road = Road(plan, Progress())
    with output.working(), labelling.labelling_server(road, asked.config) as client:
        pushed, passwords = labelling.push_plan(road, client, asked)
        page = _page(client, asked)
    views = [*plan_views(asked)]
    if passwords:
        views += account_views(passwords, client.url)
    output.result(
        {
            **_plan_data(asked),
            "added": pushed.added,
            "present": pushed.present,
            "refused": [row._asdict() for row in pushed.refused],
            "accounts": passwords,
            "page": page,
        },
        *views,
        Text(f"annotators sign in at {page}"),
    )


def _page(client: "Client", asked: "LabelPlan") -> str:
    """Where annotators go: the dataset, or the server where there are several."""
    names = {task.dataset for task in asked.tasks}
    ids = [item["id"] for item in client.datasets() if item["name"] in names]
    return f"{client.url}/dataset/{ids[0]}/annotation-mode" if len(ids) == 1 else client.url


def _plan_data(asked: "LabelPlan") -> dict[str, Any]:
    return {
        "records": len(asked.tasks),
        "new": len(asked.new),
        "judgements": asked.judgements,
        "hours": asked.hours,
        "workspaces": [row._asdict() for row in asked.workspaces],
        "left_out": dict(asked.left_out),
    }
