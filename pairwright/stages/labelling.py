"""The stage `label`, and the rankings that its votes give.

What people answered lives in the annotation store. The stage is what of it concerns the run's
candidates, frozen, so that all that follows can be made again to the byte.
"""

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from pairwright.errors import CheckError
from pairwright.labels.asking import (
    answers_missing,
    attach_rankings,
    label_config,
    labelling_server,
    own_datasets,
    own_tasks,
    plan_of_run,
    push_plan,
)
from pairwright.labels.facts import label_facts
from pairwright.labels.scripted import answer_by_script
from pairwright.stages.pipeline import Road
from pairwright.stored import by_prompt, columns, row_count
from schemas.arrow import to_table
from schemas.records import (
    Judgement,
    Ranking,
    Record,
)
from schemas.run_folder import Manifest, Stage

if TYPE_CHECKING:
    pass


class UnrankedPrompt(Record):
    """A prompt about which people's votes conclude nothing."""

    prompt_id: str
    reason: str


def make_labels(road: Road) -> Manifest:
    """People's answers about the run's candidates: asked for, fetched and frozen.

    Raises:
        CheckError: people have not answered all of it yet.
    """
    from curation.argilla.pull import pull

    config, store = label_config(road.plan), road.plan.annotations
    asked = plan_of_run(road.plan)
    with labelling_server(road, config, start=bool(config.simulated)) as client:
        tasks = push_plan(road, client, asked).answerable(asked.tasks)
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
        waiting = answers_missing(road.plan, tasks)
        missing, wanted = waiting
        if waiting.fall_short_of(config.enough):
            raise CheckError(
                f"{wanted - missing} of {wanted} answers are in; people go on at {client.url}, and "
                "the same command goes on when they are done (`pairwright label status` says how "
                "far they are; label.enough=0.9 goes on with nine of ten)"
            )
        if config.suggest and "rank" in road.plan.stages:
            attach_rankings(road, client)
    return freeze_labels(road)


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


def _prompts_of(source: Stage, index: int) -> list[str]:
    part = pq.read_table(source.files()[index], columns=["prompt_id"])
    return list(dict.fromkeys(part["prompt_id"].to_pylist()))
