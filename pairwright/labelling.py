"""The stage `label`, and the rankings that its votes give.

What people answered lives in the annotation store. The stage is what of it concerns the run's
candidates, frozen, so that all that follows can be made again to the byte.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from pairwright.errors import CheckError
from pairwright.pipeline import Road
from pairwright.plan import Plan, evaluation_rewards
from pairwright.stored import StoredPrompts, by_prompt, columns, row_count
from schemas.arrow import from_table, to_table
from schemas.configs import AggregateConfig, LabelConfig, PromptSource, ValidateConfig
from schemas.labels import LabelTask
from schemas.records import (
    Candidate,
    Completion,
    Judgement,
    Message,
    PreferencePair,
    Prompt,
    Ranking,
    Record,
)
from schemas.run_folder import Manifest, Stage

if TYPE_CHECKING:
    from curation.agreement import Agreement
    from curation.annotator_warnings import AnnotatorRow
    from curation.argilla.client import Client
    from curation.argilla.push import Pushed
    from curation.argilla.simulated import Judge
    from curation.argilla.suggest import Suggested
    from curation.argilla.tasks import LabelPlan


class UnrankedPrompt(Record):
    """A prompt about which people's votes conclude nothing."""

    prompt_id: str
    reason: str


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
    for script in config.simulated:
        if not script.name.startswith(PREFIX) or script.name not in people:
            raise ValueError(
                f"label.simulated: '{script.name}' must begin with '{PREFIX}', so that nobody "
                "takes it for a person, and stand among the annotators of a workspace"
            )


def make_labels(road: Road) -> Manifest:
    """People's answers about the run's candidates: asked for, fetched and frozen.

    Raises:
        CheckError: people have not answered all of it yet.
    """
    from curation.argilla.pull import pull

    config, store = label_config(road.plan), road.plan.annotations
    asked = plan_of_run(road.plan)
    with labelling_server(road, config, start=bool(config.simulated)) as client:
        push_plan(road, client, asked)
        if config.assisted and "rank" in road.plan.stages:
            attach_rankings(road, client)
        if config.simulated:
            answer_by_script(road, client)
        pull(
            client,
            store,
            datasets=own_datasets(road.plan),
            progress=lambda line: road.progress.line(f"label: {line}"),
        )
        missing, wanted = answers_missing(road.plan, asked.tasks)
        if missing > (1 - config.enough) * wanted:
            raise CheckError(
                f"{wanted - missing} of {wanted} answers are in; people go on at {client.url}, and "
                "the same command goes on when they are done (`pairwright label status` says how "
                "far they are; label.enough=0.9 goes on with nine of ten)"
            )
        if config.suggest and "rank" in road.plan.stages:
            attach_rankings(road, client)
    return freeze_labels(road)


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


def answer_by_script(road: Road, client: "Client") -> None:
    """Have the config's simulated annotators answer what is put before them."""
    from curation.argilla.simulated import answer_all

    plan = road.plan
    config = label_config(plan)
    scripts = answer_all(
        client,
        config.simulated,
        _reading_judge(plan),
        seed=plan.config.seed,
        datasets=own_datasets(plan),
    )
    for done in scripts:
        road.progress.line(
            f"label: {done.annotator} (a script) submitted {done.submitted}, "
            f"discarded {done.discarded}"
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


def freeze_labels(road: Road) -> Manifest:
    """The stage made of the answers that the store holds now about the run's candidates.

    Answers to gold questions, which tell how far to trust an annotator, are a kind of their own.
    Answers to the dataset's tasks about candidates that the run does not have are OTHER_CANDIDATES.
    """
    plan, source = road.plan, road.run.stage("generate")
    shown = set(columns(source, ["text_id"])["text_id"].to_pylist())
    tasks = own_tasks(plan)
    about = {task.id for task in tasks}
    ours, gold, elsewhere = [], [], 0
    for item in plan.annotations.judgements.read():
        if set(item.candidates) <= shown:
            ours.append(item)
        elif item.task_id in about and item.purpose == "gold":
            gold.append(item)
        else:
            elsewhere += item.task_id in about
    of_prompt = by_prompt(ours)
    writer = road.begin("label", parts=len(source.files()))
    for index in writer.missing():
        found = [
            item
            for prompt_id in _prompts_of(source, index)
            for item in of_prompt.get(prompt_id, ())
        ]
        apart = gold if index == 0 else []
        writer.commit(index, to_table(found, Judgement), gold=to_table(apart, Judgement))
    waiting = answers_missing(plan, tasks)
    counts = {
        "tasks": len(tasks),
        "answers_wanted": waiting.wanted,
        "answers_missing": waiting.missing,
        "judgements": len(ours),
        "gold_judgements": len(gold),
        "annotators": len({item.annotator.name for item in ours}),
    }
    reasons = {"OTHER_CANDIDATES": elsewhere} if elsewhere else {}
    facts = label_facts(plan, [*ours, *gold], tasks)
    return writer.finish(counts=counts, reasons=reasons, facts=facts)


def label_facts(
    plan: Plan, judgements: Sequence[Judgement], tasks: Sequence[LabelTask]
) -> dict[str, Any]:
    """What is to be known before the votes are trusted: agreement, annotators, methods."""
    from curation.agreement import agreement_of_judgements
    from curation.annotators import annotator_report
    from curation.gold import compare_methods, gold_of
    from curation.votes import counted_judgements, votes_of
    from curation.voting import one_vote_each

    config, excluded = label_config(plan), plan.annotations.excluded()
    counted = counted_judgements(
        judgements, question=plan.config.aggregate.question, excluded=excluded
    )
    agreements = agreement_of_judgements(judgements, excluded=excluded)
    gold = gold_of(tasks)
    methods = compare_methods(one_vote_each(votes_of(counted.kept)), gold) if gold else []
    return {
        "dataset": config.dataset,
        "simulated": [script.name for script in config.simulated],
        "tasks": dict(sorted(Counter(task.purpose for task in tasks).items())),
        "not_asked": dict(sorted(plan_of_run(plan).left_out.items())),
        "shown_first": dict(sorted(Counter(_order(task) for task in tasks).items())),
        "not_counted": dict(sorted(counted.left_out.items())),
        "excluded": excluded,
        "agreement": {
            question: found.model_dump(mode="json") for question, found in agreements.items()
        },
        "annotators": [
            row.model_dump(mode="json")
            for row in annotator_report(judgements, tasks, excluded=excluded)
        ],
        "methods": [row._asdict() for row in methods],
    }


def rankings_by_people(road: Road) -> Manifest:
    """Rankings concluded from people's votes; each prompt without one has a reason."""
    from curation.votes import counted_judgements
    from curation.voting import rankings_from_votes

    plan, source = road.plan, road.run.stage("label")
    candidates = road.run.stage("generate")
    method, question = plan.method, plan.config.aggregate.question
    assert method != "score"
    judgements = [*source.read(Judgement), *source.read(Judgement, "gold")]
    excluded = plan.annotations.excluded()
    shown = set(columns(candidates, ["text_id"])["text_id"].to_pylist())
    writer = road.begin("aggregate", parts=len(source.files()))
    with road.progress.task("aggregate", "judgements", len(judgements)) as task:
        found = {
            item.prompt_id: item
            for item in rankings_from_votes(
                judgements,
                method=method,
                question=question,
                excluded=excluded,
                min_votes=plan.config.aggregate.min_votes,
                known=shown,
                assisted=label_config(plan).assisted,
            )
        }
        for index in writer.missing():
            here = [found[key] for key in _prompts_of(candidates, index) if key in found]
            writer.commit(
                index,
                to_table((item for item in here if isinstance(item, Ranking)), Ranking),
                unranked=to_table(
                    (
                        UnrankedPrompt(prompt_id=item.prompt_id, reason=item.reason)
                        for item in here
                        if not isinstance(item, Ranking)
                    ),
                    UnrankedPrompt,
                ),
            )
        task.advance(len(judgements))
    stage = road.run.stage("aggregate")
    reasons = Counter(columns(stage, ["reason"], "unranked")["reason"].to_pylist())
    counted = counted_judgements(
        judgements, question=question, excluded=excluded, assisted=label_config(plan).assisted
    )
    counts = {
        "judgements": len(judgements),
        "counted": len(counted.kept),
        "rankings": row_count(stage),
        "unranked": reasons.total(),
    }
    facts = {"not_counted": dict(sorted(counted.left_out.items()))}
    return writer.finish(counts=counts, reasons=reasons, facts=facts)


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


class AgreementSoFar(NamedTuple):
    """What the store's answers to the config's datasets say about the people who gave them."""

    questions: "dict[str, Agreement]"
    annotators: "list[AnnotatorRow]"

    def data(self) -> dict[str, Any]:
        return {
            "agreement": {key: one.model_dump(mode="json") for key, one in self.questions.items()},
            "annotator_report": [row.model_dump(mode="json") for row in self.annotators],
        }


def agreement_so_far(plan: Plan) -> AgreementSoFar:
    """How well people agree on each question, and a row a person."""
    from curation.agreement import agreement_of_judgements
    from curation.annotators import annotator_report

    tasks, excluded = own_tasks(plan), plan.annotations.excluded()
    about = {task.id for task in tasks}
    given = [item for item in plan.annotations.judgements.read() if item.task_id in about]
    return AgreementSoFar(
        agreement_of_judgements(given, excluded=excluded),
        annotator_report(given, tasks, excluded=excluded),
    )


def own_datasets(plan: Plan) -> list[str]:
    """The names in the server of the config's dataset and of those that follow it.

    The dataset's own is among them although the store knows no task of it, so that answers to
    records of a lost store are at least counted.
    """
    from curation.argilla.names import dataset_name

    own = dataset_name(label_config(plan).dataset)
    return sorted({own, *(task.dataset for task in own_tasks(plan))})


def _order(task: LabelTask) -> str:
    """Which candidate of a record, by the order of their ids, is shown first."""
    return str(sorted(task.shown).index(task.shown[0]) + 1)


def _items(plan: Plan, prompts: StoredPrompts) -> Iterator[tuple[Prompt, Sequence[Candidate]]]:
    for file in plan.run.stage("generate").files():
        grouped = by_prompt(from_table(pq.read_table(file), Candidate))
        asked = prompts.of(grouped)
        for key, group in grouped.items():
            yield asked[key], group


def _prompts_of(source: Stage, index: int) -> list[str]:
    part = pq.read_table(source.files()[index], columns=["prompt_id"])
    return list(dict.fromkeys(part["prompt_id"].to_pylist()))


def _reading_judge(plan: Plan) -> "Judge":
    """What a person would think of the answers on a page: the config's reward, from texts alone.

    A person understands what a prompt asks for; a script looks it up by the words of the prompt.
    """
    from curation.argilla.text import shown_messages
    from curation.prompts import load_prompts
    from curation.rewards.weighted import build_reward

    rank = plan.config.rank
    reward = build_reward(evaluation_rewards(plan.config), rank.abstain if rank else "renormalise")
    known = list(plan.run.stage("prompts").read(Prompt))
    gold = label_config(plan).gold
    if gold is not None:
        known += load_prompts([PromptSource(path=gold.path)]).prompts
    by_words = {json.dumps(shown_messages(prompt)): prompt for prompt in known}

    def judge(messages: list[dict[str, str]], texts: list[str]) -> Sequence[float | None]:
        prompt = by_words.get(json.dumps(messages))
        if prompt is None:
            prompt = Prompt(messages=tuple(Message.model_validate(turn) for turn in messages))
        completions = [Completion.from_text(text) for text in texts]
        return reward([prompt] * len(texts), completions)

    return judge
