"""What each `label` command does."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import RenderableType
from rich.text import Text

from curation.votes import votes_of
from curation.voting import one_vote_each
from pairwright.labels import asking, facts
from pairwright.labels.asking_again import counted_answers, disputes, next_votes
from pairwright.labels.views import (
    account_views,
    agreement_views,
    annotator_views,
    counted,
    needed_views,
    plan_views,
    pulled_views,
    status_views,
)
from pairwright.output import Output
from pairwright.plan import Plan
from pairwright.progress import Progress
from pairwright.road import keep_config, needs_complete, open_plan, refuse_rounds
from pairwright.stages import labelling
from pairwright.stages.pipeline import Road

if TYPE_CHECKING:
    from curation.argilla.client import Client
    from curation.argilla.server.stack import Started
    from curation.argilla.tasks import LabelPlan


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
    if plan is not None and asking.label_config(plan).server != "embedded":
        raise ValueError(
            "label.server names another server, and `serve` runs the embedded one; use "
            "`pairwright label push` for another"
        )

    def ready(server: "Started") -> None:
        passwords = {one.username: one.password for one in server.accounts if one.password}
        page = server.url
        if plan is not None:
            from curation.argilla.client import Client

            road = Road(plan, progress)
            with Client(server.url, server.api_key) as client:
                asked = asking.plan_of_run(plan)
                if asked.tasks:
                    passwords |= asking.push_plan(road, client, asked).passwords
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
        asked = asking.plan_of_run(_open(config, overrides, run))
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
        asked = asking.plan_of_run(plan) if following is None else next_votes(plan, following)
    nothing = "the run has no candidates" if following is None else "no pair has been asked about"
    _push(output, plan, asked, nothing=nothing)


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
        asked = disputes(plan, limit)
    _push(output, plan, asked, nothing="annotators disagree on no pair without a ruling")


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
        road, asked = Road(plan, Progress()), asking.label_config(plan)
        with asking.labelling_server(road, asked) as client:
            found = status_on_server(client, store, datasets=asking.own_datasets(plan))
        so_far = facts.agreement_so_far(plan)
        voted = [item for item in counted_answers(plan) if item.purpose == "label"]
        votes = one_vote_each(votes_of(voted))
        needed = {
            "80% of pairs decided at 90% certainty": labels_until_decided(votes),
            f"80% of pairs known to a width of {width:g}": labels_until_width(votes, width=width),
        }
    data = {
        "datasets": [row._asdict() for row in found.datasets],
        "annotators": [row._asdict() for row in found.annotators],
        "needs_more": found.needs_more,
        "absent": [{"dataset": name, "workspace": place} for name, place in found.absent],
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
        # Held from the first read on, so that nothing comes back that `forget` takes away.
        with plan.run.writing():
            with asking.labelling_server(road, asking.label_config(plan)) as client:
                names = asking.own_datasets(plan)
                pulled = pull_from_server(client, plan.annotations, datasets=names)
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
        with asking.labelling_server(road, asking.label_config(plan)) as client:
            done = asking.attach_rankings(road, client)
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
    effect = "no longer count" if action == "exclude" else "count again"
    output.result(
        {"annotator": annotator, "action": action, "reason": reason},
        Text(f"the votes of {annotator} {effect}; `pairwright run` makes what depends on them"),
    )


def _open(config: Path, overrides: Sequence[str] | None, run: Path | None) -> Plan:
    """The plan of a run that has candidates to ask about."""
    plan = open_plan(config, overrides or (), run=run, limit=None)
    refuse_rounds(plan.run.path)
    asking.label_config(plan)
    needs_complete(plan, "generate")
    return plan


def _push(output: Output, plan: Plan, asked: "LabelPlan", *, nothing: str) -> None:
    """`nothing` says why there is nothing to ask where all that was left out does not."""
    if not asked.tasks:
        done = {"added": 0, "present": 0, "refused": [], "accounts": {}, "page": None}
        why = counted(asked.left_out) or nothing
        output.result(
            {**_plan_data(asked), **done},
            Text(f"nothing to ask, so no accounts were made and nothing was sent: {why}"),
        )
        return
    road = Road(plan, Progress())
    with output.working(), asking.labelling_server(road, asked.config) as client:
        if asked.config.server != "embedded" and asked.tasks[0].follows is not None:
            from curation.argilla.accounts import ensure_workspaces

            # The owner made the config's workspaces, and cannot know of these.
            ensure_workspaces(client, asked.config)
        pushed, passwords = asking.push_plan(road, client, asked)
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
