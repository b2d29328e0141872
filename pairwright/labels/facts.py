"""What is to be known of people's answers before they are trusted."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pairwright.labels.asking import (
    gold_pairs,
    label_config,
    own_tasks,
    plan_of_run,
    without_old_gold,
)
from pairwright.plan import Plan
from schemas.labels import LabelTask
from schemas.records import (
    Judgement,
)

if TYPE_CHECKING:
    from curation.agreement import Agreement
    from curation.annotator_warnings import AnnotatorRow


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
    assisted = config.assisted
    counted = counted_judgements(
        judgements,
        question=plan.config.aggregate.question,
        excluded=excluded,
        assisted=assisted,
    )
    agreements = agreement_of_judgements(judgements, excluded=excluded, assisted=assisted)
    measuring = without_old_gold(tasks, gold_pairs(config, seed=plan.config.seed))
    gold = gold_of(measuring)
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
            for row in annotator_report(judgements, measuring, excluded=excluded, assisted=assisted)
        ],
        "methods": [row._asdict() for row in methods],
    }


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

    config, tasks, excluded = label_config(plan), own_tasks(plan), plan.annotations.excluded()
    assisted = config.assisted
    measuring = without_old_gold(tasks, gold_pairs(config, seed=plan.config.seed))
    about = {task.id for task in tasks}
    given = [item for item in plan.annotations.judgements.read() if item.task_id in about]
    return AgreementSoFar(
        agreement_of_judgements(given, excluded=excluded, assisted=assisted),
        annotator_report(given, measuring, excluded=excluded, assisted=assisted),
    )


def _order(task: LabelTask) -> str:
    """Which candidate of a record, in the order they were sampled, is shown first."""
    sampled = sorted(task.candidates, key=lambda item: (item.origin.index, item.id))
    return str(sampled.index(task.candidates[0]) + 1)
