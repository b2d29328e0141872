"""What people are asked about a run, and the server that asks them."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from pairwright.plan import Plan
from pairwright.stages.pipeline import Road
from pairwright.stored import StoredPrompts, by_prompt
from schemas.arrow import from_table
from schemas.configs import AggregateConfig, LabelConfig, ValidateConfig
from schemas.labels import LabelTask
from schemas.records import (
    Candidate,
    Judgement,
    PreferencePair,
    Prompt,
)

if TYPE_CHECKING:
    from curation.argilla.client import Client
    from curation.argilla.push import Pushed
    from curation.argilla.suggest import Suggested
    from curation.argilla.tasks import LabelPlan


def label_config(plan: Plan) -> LabelConfig:
    """The config's section `label`.

    Raises:
        ValueError: it has none.
    """
    if plan.config.label is None:
        raise ValueError(
            "the config has no section 'label'; expected label.dataset and label.workspaces"
        )
    return plan.config.label


def check_labels(config: LabelConfig, aggregate: AggregateConfig) -> None:
    """Refuse what could not be asked; no server is needed to see it.

    Raises:
        ValueError: the key and what is wrong with it.
    """
    from curation.argilla.names import check_account_names, dataset_name, question_names
    from curation.argilla.simulated import PREFIX
    from curation.argilla.tasks import check_overlap

    dataset_name(config.dataset)
    questions = ["overall", *question_names(config.criteria)]
    if aggregate.method != "score" and aggregate.question not in questions:
        raise ValueError(
            f"aggregate.question is '{aggregate.question}', which nobody is asked; expected one of "
            f"{', '.join(questions)}"
        )
    if "@" in urlsplit(config.server).netloc:
        raise ValueError(
            "label.server holds a user name or a password, which a run's config would keep; give "
            "the address alone, and the key in ARGILLA_API_KEY"
        )
    check_account_names(config.workspaces, what="workspace")
    people = {name for group in config.workspaces.values() for name in group.annotators}
    check_account_names(sorted(people), what="annotator")
    check_overlap(config, config.overlap)
    for key, file in (
        ("guidelines", config.guidelines),
        ("gold.path", config.gold.path if config.gold else None),
    ):
        if file is not None and not Path(file).is_file():
            raise ValueError(f"label.{key}: '{file}' is no file")
    scripts = Counter(script.name for script in config.simulated)
    if twice := [name for name, count in scripts.items() if count > 1]:
        raise ValueError(f"label.simulated names '{twice[0]}' more than once; expected each once")
    for script in config.simulated:
        if not script.name.startswith(PREFIX) or script.name not in people:
            raise ValueError(
                f"label.simulated: '{script.name}' must begin with '{PREFIX}', so that nobody "
                "takes it for a person, and stand among the annotators of a workspace"
            )


def plan_of_run(plan: Plan) -> "LabelPlan":
    """What the run's candidates and the gold questions give people to do."""
    from curation.argilla.tasks import plan_tasks

    config = label_config(plan)
    prompts = StoredPrompts(plan.run.stage("prompts"))
    return plan_tasks(
        config,
        _items(plan, prompts),
        gold_pairs(config, seed=plan.config.seed),
        plan.annotations.tasks.read(),
        seed=plan.config.seed,
    )


def gold_pairs(config: LabelConfig, *, seed: int) -> Sequence[PreferencePair]:
    """The questions whose answer is known; none where the config has no gold file.

    Raises:
        ValueError: a row of the file is no preference.
    """
    if config.gold is None:
        return ()
    from curation.validation.gate import Gate, rows_from_file

    gate = Gate(ValidateConfig(test_share=0, token_checks=False), seed=seed)
    result = gate.run(rows_from_file(Path(config.gold.path)))
    if result.quarantined:
        first = result.quarantined[0]
        raise ValueError(
            f"gold file '{config.gold.path}': row {first.row_id} is no preference "
            f"({first.code}: {first.message}); mend it, as annotators are measured by it"
        )
    return result.pairs


def without_old_gold(tasks: Sequence[LabelTask], gold: Sequence[PreferencePair]) -> list[LabelTask]:
    """The tasks but for gold questions that the gold file no longer holds.

    Whoever takes a wrong one out of the file wants nobody measured by it.
    """
    known = {
        (pair.prompt.id, *sorted((pair.chosen.text_id, pair.rejected.text_id))) for pair in gold
    }
    return [
        task
        for task in tasks
        if task.purpose != "gold" or (task.prompt.id, *sorted(task.shown)) in known
    ]


@contextlib.contextmanager
def labelling_server(road: Road, config: LabelConfig, *, start: bool = False) -> Iterator["Client"]:
    """A client of the config's server; with `start` the embedded one is run for as long as that."""
    from curation.argilla.client import connect
    from curation.argilla.server.background import start_background
    from curation.argilla.server.home import default_home, running

    with contextlib.ExitStack() as stack:
        if start and config.server == "embedded" and running() is None:
            stack.enter_context(
                start_background(
                    default_home(), progress=lambda line: road.progress.line(f"label: {line}")
                )
            )
        yield stack.enter_context(connect(config))


class PushedPlan(NamedTuple):
    pushed: "Pushed"
    passwords: dict[str, str]
    """Of the accounts that were made for it, by user name."""

    def answerable(self, asked: Sequence[LabelTask]) -> list[LabelTask]:
        """Those of the tasks that people can answer, now or after another push."""
        never = {refused.task_id for refused in self.pushed.refused if refused.for_good}
        return [task for task in asked if task.id not in never]


def push_plan(road: Road, client: "Client", asked: "LabelPlan") -> PushedPlan:
    """What was put before annotators.

    Accounts are made on the embedded server alone; another server's are its owner's affair.
    """
    from curation.argilla.accounts import ensure_annotators
    from curation.argilla.push import push

    passwords = {}
    if asked.config.server == "embedded":
        passwords = ensure_annotators(client, asked.config)
    with road.progress.task("label", "records", len(asked.tasks)) as task:
        pushed = push(client, road.plan.annotations, asked, progress=task.set)
    road.progress.line(f"label: {pushed.added} records added, {pushed.present} were there")
    for refused in pushed.refused:
        road.progress.line(f"label: {refused.task_id} was not sent, {refused.message}")
    return PushedPlan(pushed, passwords)


class AnswersMissing(NamedTuple):
    missing: int
    wanted: int

    def fall_short_of(self, share: float) -> bool:
        """Whether fewer than that share of the answers are in."""
        # 0.55 of 20 is 11, but a little more in binary.
        return self.wanted - self.missing < round(share * self.wanted, 9)


def answers_missing(plan: Plan, tasks: Sequence[LabelTask]) -> AnswersMissing:
    """How many answers the server still asks for, of how many.

    It does not know who is excluded or was assisted: such an answer completes a record too, though
    it may not count.
    """
    latest: dict[tuple[str | None, str], Judgement] = {}
    for judgement in plan.annotations.judgements.read():
        if judgement.question == "overall":
            key = (judgement.task_id, judgement.annotator.name)
            if key not in latest or judgement.revision >= latest[key].revision:
                latest[key] = judgement
    given = Counter(key[0] for key, item in latest.items() if item.status == "submitted")
    return AnswersMissing(
        missing=sum(max(0, task.overlap - given[task.id]) for task in tasks),
        wanted=sum(task.overlap for task in tasks),
    )


def attach_rankings(road: Road, client: "Client") -> "Suggested":
    """The machine ranking shown on records that people have completed, or on all if assisted."""
    from curation.argilla.names import question_names
    from curation.argilla.suggest import suggest

    plan = road.plan
    asked = {"overall", *question_names(label_config(plan).criteria)}
    ranked = plan.run.stage("rank").read(Judgement)
    judgements = [item for item in ranked if item.question in asked]
    with road.progress.task("label", "records to suggest on", 0) as task:
        done = suggest(client, plan.annotations, label_config(plan), judgements, progress=task.set)
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(done.left_out.items()))
    road.progress.line(f"label: {done.attached} suggestions attached; not: {left_out or 'none'}")
    return done


def own_tasks(plan: Plan) -> list[LabelTask]:
    """The tasks of the config's dataset and of those that follow it."""
    from curation.argilla.names import dataset_name

    name = dataset_name(label_config(plan).dataset)
    ranked = re.compile(re.escape(name) + r"-rank-\d")
    return [
        task
        for task in plan.annotations.tasks.read()
        if name in (task.dataset, task.follows) or ranked.fullmatch(task.dataset)
    ]


def own_datasets(plan: Plan) -> list[str]:
    """The names in the server of the config's dataset and of those that follow it.

    The dataset's own is among them although the store knows no task of it, so that answers to
    records of a lost store are at least counted.
    """
    from curation.argilla.names import dataset_name

    own = dataset_name(label_config(plan).dataset)
    return sorted({own, *(task.dataset for task in own_tasks(plan))})


def _items(plan: Plan, prompts: StoredPrompts) -> Iterator[tuple[Prompt, Sequence[Candidate]]]:
    for file in plan.run.stage("generate").files():
        grouped = by_prompt(from_table(pq.read_table(file), Candidate))
        asked = prompts.of(grouped)
        for key, group in grouped.items():
            yield asked[key], group
