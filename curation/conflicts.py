"""Where one annotator's overall answer contradicts what the same annotator said of its aspects."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.records import Judgement

CONFLICT = 0.5
"""Signals on a scale of 0 to 1 that lie further apart contradict each other."""
FEWEST_ASPECTS = 2
"""A single aspect may well differ from the whole: a shorter answer can be the worse one."""


class Scale(NamedTuple):
    """The least and the best value that a rating can have."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where the value lies on the scale, 0 to 1.

        Raises:
            ValueError: it lies outside.
        """
        if not (math.isfinite(value) and self.low <= value <= self.high):
            raise ValueError(
                f"rating {value} is not on its scale; expected {self.low} to {self.high}"
            )
        return (value - self.low) / (self.high - self.low)


def contradicts(overall: float, aspects: Sequence[float]) -> bool:
    """Whether the overall signal and the mean of the aspects' lie apart by more than `CONFLICT`.

    All on a scale of 0 to 1. No aspect contradicts nothing.
    """
    return bool(aspects) and abs(overall - math.fsum(aspects) / len(aspects)) > CONFLICT


def conflicting_answers(judgements: Iterable[Judgement], *, question: str = "overall") -> set[str]:
    """The ids of people's and judges' ranked answers that contradict their own criteria.

    A candidate's signal is its place among those shown, 1 for the best, 0 for the worst, ties in
    the middle. Rules and reward models are not asked.
    """
    answers: dict[tuple[object, ...], dict[str, Judgement]] = defaultdict(dict)
    for judgement in judgements:
        taken_back = judgement.status != "submitted"
        if judgement.annotator.kind in _JUDGES_PARTS and (taken_back or judgement.ranks):
            asked = judgement.task_id or tuple(sorted(judgement.candidates))
            key = (judgement.annotator.name, judgement.prompt_id, asked)
            before = answers[key].get(judgement.question)
            if before is None or judgement.revision >= before.revision:
                answers[key][judgement.question] = judgement
    found = set()
    for given in answers.values():
        overall = given.pop(question, None)
        aspects = [_places(item) for item in given.values() if item.status == "submitted"]
        if overall and overall.status == "submitted" and len(aspects) >= FEWEST_ASPECTS:
            for candidate, place in _places(overall).items():
                if contradicts(place, [aspect[candidate] for aspect in aspects]):
                    found.add(overall.id)
    return found


def conflicting_scores(
    judgements: Iterable[Judgement], scales: Mapping[str, Scale], *, question: str = "overall"
) -> set[tuple[str, str]]:
    """Annotator and candidate wherever a person's or judge's rating contradicts its aspects'.

    The judgements are of one prompt. `scales` has the question's scale and those of its aspects;
    other questions are not asked.

    Raises:
        ValueError: the question has no scale, or a rating is not on its scale.
    """
    if question not in scales:
        raise ValueError(
            f"scales name {', '.join(sorted(scales)) or 'nothing'}; expected one for '{question}'"
        )
    ratings: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for judgement in sorted(judgements, key=lambda item: item.revision):
        scale = scales.get(judgement.question)
        if scale is None or judgement.annotator.kind not in _JUDGES_PARTS:
            continue
        scores = judgement.scores or (None,) * len(judgement.candidates)
        for candidate, score in zip(judgement.candidates, scores, strict=True):
            given = ratings[judgement.annotator.name, candidate]
            given.pop(judgement.question, None)
            if score is not None and judgement.status == "submitted":
                given[judgement.question] = scale.share(score)
    found = set()
    for key, given in ratings.items():
        overall = given.pop(question, None)
        if overall is None or len(given) < FEWEST_ASPECTS:
            continue
        if contradicts(overall, list(given.values())):
            found.add(key)
    return found


_JUDGES_PARTS = ("human", "judge")
"""A weighted sum of rules and reward models may well have opposed parts."""


def _places(judgement: Judgement) -> dict[str, float]:
    ranks = judgement.ranks or (1,) * len(judgement.candidates)
    others = max(1, len(ranks) - 1)
    return {
        candidate: (sum(other > rank for other in ranks) + (ranks.count(rank) - 1) / 2) / others
        for candidate, rank in zip(judgement.candidates, ranks, strict=True)
    }
