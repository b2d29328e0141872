"""What is asked once more: pairs that deserve another vote, and those that people disagree on."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from curation.posteriors import Pair
from curation.votes import counted_judgements, votes_of
from curation.voting import aggregate_votes, one_vote_each
from pairwright.labels import asking
from pairwright.plan import Plan
from schemas.labels import LabelTask
from schemas.records import Candidate, Judgement, Prompt

if TYPE_CHECKING:
    from curation.argilla.tasks import LabelPlan


def next_votes(plan: Plan, count: int) -> "LabelPlan":
    """The pairs on which one more vote should tell most, for people who have not seen them."""
    from curation.argilla.follow_ups import follow_up_tasks, used_up
    from curation.next_labels import next_pairs

    config, asked = asking.label_config(plan), _asked_pairs(plan)
    stored, excluded = list(plan.annotations.tasks.read()), plan.annotations.excluded()
    answered = _answered_by(plan.annotations.judgements.read())
    given = (item for item in counted_answers(plan) if item.purpose == "label")
    votes = one_vote_each(votes_of(given))
    known = {*asked, *(vote.pair for vote in votes)}
    skip = used_up(config, known, answered, stored, excluded=excluded)
    found = next_pairs(votes, count, unvoted=asked, skip=skip)
    follow_up = follow_up_tasks(
        config,
        _with_texts(plan, [item.pair for item in found]),
        answered,
        stored,
        seed=plan.config.seed,
        number=_next_number(asking.own_tasks(plan)),
        excluded=excluded,
    )
    return follow_up._replace(left_out=follow_up.left_out + Counter(NOBODY_NEW=len(skip)))


def disputes(plan: Plan, limit: int | None) -> "LabelPlan":
    """The pairs that people disagree on, for the adjudicators."""
    from curation.argilla.follow_ups import adjudication_tasks
    from curation.next_labels import disagreements

    config = asking.label_config(plan)
    if not config.adjudicators:
        raise ValueError(
            "the config names no label.adjudicators; expected the user names of those whose "
            "answer decides"
        )
    given = counted_answers(plan)
    rulings = votes_of(item for item in given if item.purpose == "adjudication")
    votes = one_vote_each(votes_of(item for item in given if item.purpose == "label"))
    verdicts = aggregate_votes(votes, adjudications=one_vote_each(rulings)).pairs
    return adjudication_tasks(
        config,
        _with_texts(plan, disagreements(verdicts)[:limit]),
        # Who has ruled on a pair may do so again.
        _answered_by(
            item for item in plan.annotations.judgements.read() if item.purpose != "adjudication"
        ),
        plan.annotations.tasks.read(),
        seed=plan.config.seed,
        excluded=plan.annotations.excluded(),
    )


def _with_texts(plan: Plan, pairs: Sequence[Pair]) -> list[tuple[Prompt, Candidate, Candidate]]:
    tasks = asking.own_tasks(plan)
    known = {one.text_id: (task.prompt, one) for task in tasks for one in task.candidates}
    return [(known[left][0], known[left][1], known[right][1]) for _, left, right in pairs]


def _answered_by(judgements: Iterable[Judgement]) -> dict[Pair, set[str]]:
    answered: dict[Pair, set[str]] = defaultdict(set)
    for vote in votes_of(judgements):
        answered[vote.pair].add(vote.annotator)
    return answered


def _next_number(tasks: Sequence[LabelTask]) -> int:
    """2 where the datasets before end in `next-1`."""
    found = (task.dataset.rpartition("-next-")[2] for task in tasks if "-next-" in task.dataset)
    return 1 + max((int(number) for number in found if number.isdigit()), default=0)


def _asked_pairs(plan: Plan) -> list[Pair]:
    """Each two candidates that were put before people, but for gold questions."""
    return [
        (task.prompt.id, left, right)
        for task in asking.own_tasks(plan)
        if task.purpose == "label"
        for left, right in combinations(sorted(task.shown), 2)
    ]


def counted_answers(plan: Plan) -> list[Judgement]:
    """The answers to the config's own datasets that count."""
    store = plan.annotations
    about = {task.id for task in asking.own_tasks(plan)}
    return counted_judgements(
        (item for item in store.judgements.read() if item.task_id in about),
        question=plan.config.aggregate.question,
        excluded=store.excluded(),
        assisted=asking.label_config(plan).assisted,
    ).kept
