"""From judgements to rankings: what is concluded about the candidates of a prompt."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from curation.conflicts import Scale, conflicting_scores
from schemas.records import Judgement, Ranking


class Unranked(NamedTuple):
    """A prompt about which nothing is concluded."""

    prompt_id: str
    reason: str
    """UNSCORED: no candidate has a score. INCONCLUSIVE: too few annotators gave one, or no vote
    counts. SIGNAL_CONFLICT: the answers contradict what the same annotators said of the parts."""


def rankings_from_scores(
    judgements: Iterable[Judgement],
    *,
    question: str = "overall",
    min_judgements: int | None = None,
) -> Iterator[Ranking]:
    """The rankings among what `aggregate_scores` concludes."""
    concluded = aggregate_scores(judgements, question=question, min_judgements=min_judgements)
    return (item for item in concluded if isinstance(item, Ranking))


def aggregate_scores(
    judgements: Iterable[Judgement],
    *,
    question: str = "overall",
    min_judgements: int | None = None,
    scales: Mapping[str, Scale] | None = None,
) -> Iterator[Ranking | Unranked]:
    """One conclusion for each prompt whose judgements answer the question, in their order.

    Candidates are ranked by score, the highest first; scores that are equal to 12 digits share a
    dense rank, and a candidate without a score is left out. Drafts and discarded answers do not
    count, and of one annotator's answers the latest revision does. Judgements of one prompt must
    come together.

    Without `min_judgements` one annotator decides. With it, that many must have scored a candidate,
    on one scale; the mean of their scores ranks it. Fewer are no quorum: INCONCLUSIVE.

    With `scales` of the question and of its aspects, a person's or judge's score that contradicts
    the same annotator's scores of the aspects is held out: SIGNAL_CONFLICT where none is left.

    Raises:
        ValueError: a judgement holds ranks but no scores, one annotator scores a candidate twice,
            several annotators answer but no `min_judgements` says that they be averaged, or the
            judgements of a prompt lie apart.
    """
    if min_judgements is not None and min_judgements < 1:
        raise ValueError(f"min_judgements is {min_judgements}; expected 1 or more")
    asked = (
        judgement for judgement in judgements if judgement.question in {question, *(scales or ())}
    )
    seen: set[str] = set()
    for prompt_id, group in groupby(asked, key=lambda judgement: judgement.prompt_id):
        if prompt_id in seen:
            raise ValueError(
                f"judgements of prompt '{prompt_id}' lie apart; sort them by prompt before "
                "aggregating"
            )
        seen.add(prompt_id)
        answers = list(group)
        overall = [judgement for judgement in answers if judgement.question == question]
        conflicts = conflicting_scores(answers, scales, question=question) if scales else set()
        if any(judgement.status == "submitted" for judgement in overall):
            yield _conclusion(prompt_id, overall, min_judgements, conflicts)


def _conclusion(
    prompt_id: str,
    judgements: Sequence[Judgement],
    min_judgements: int | None,
    conflicts: Collection[tuple[str, str]],
) -> Ranking | Unranked:
    answers = _votes_by_annotator(prompt_id, judgements)
    if min_judgements is None and len(answers) > 1:
        names = ", ".join(sorted(f"'{annotator}'" for _, annotator in answers))
        raise ValueError(
            f"prompt '{prompt_id}': {names} answer the same question; combine rewards in one "
            "WeightedSum, or give min_judgements to average annotators who use one scale"
        )
    votes: dict[str, list[_Vote]] = {}
    for (_, annotator), given in answers.items():
        for candidate, vote in given.items():
            if (annotator, candidate) not in conflicts:
                votes.setdefault(candidate, []).append(vote)
    if conflicts and not votes:
        return Unranked(prompt_id, "SIGNAL_CONFLICT")
    if min_judgements is None and not votes:
        return Unranked(prompt_id, "UNSCORED")
    ranked = {name: cast for name, cast in votes.items() if len(cast) >= (min_judgements or 1)}
    means = {
        name: math.fsum(vote.score for vote in cast) / len(cast) for name, cast in ranked.items()
    }
    used = {vote.judgement_id for cast in ranked.values() for vote in cast}
    if not means:
        return Unranked(prompt_id, "INCONCLUSIVE")
    levels = sorted({_level(score) for score in means.values()}, reverse=True)
    rank_of = {level: rank for rank, level in enumerate(levels, 1)}
    return Ranking(
        prompt_id=prompt_id,
        candidates=tuple(means),
        ranks=tuple(rank_of[_level(score)] for score in means.values()),
        scores=tuple(means.values()),
        method="score" if min_judgements is None else "mean_score",
        judgement_ids=tuple(judgement.id for judgement in judgements if judgement.id in used),
    )


def _level(score: float) -> float:
    """The score without its last bits: sums that are equal on paper must not rank apart."""
    return float(f"{score:.12g}")


class _Vote(NamedTuple):
    score: float
    judgement_id: str


def _votes_by_annotator(
    prompt_id: str, judgements: Sequence[Judgement]
) -> dict[tuple[str, str], dict[str, _Vote]]:
    """Each annotator's scores of the candidates that they scored."""
    answers: dict[tuple[str, str], dict[str, _Vote]] = {}
    revisions: dict[tuple[str, str, str], int] = {}
    for judgement in sorted(judgements, key=lambda item: item.revision):
        annotator = (judgement.annotator.kind, judgement.annotator.name)
        where = f"prompt '{prompt_id}': a judgement by '{annotator[1]}'"
        if judgement.status != "submitted":
            for candidate in judgement.candidates:
                if revisions.get((*annotator, candidate), judgement.revision) < judgement.revision:
                    answers.get(annotator, {}).pop(candidate, None)
            if not answers.get(annotator):
                answers.pop(annotator, None)
            continue
        if judgement.scores is None and judgement.ranks is not None:
            raise ValueError(f"{where} holds ranks but no scores; scores rank candidates here")
        answers.setdefault(annotator, {})
        for candidate, score in zip(judgement.candidates, judgement.scores or (), strict=False):
            if revisions.get((*annotator, candidate)) == judgement.revision:
                raise ValueError(
                    f"{where} scores candidate '{candidate}' a second time; a changed mind has a "
                    "higher revision"
                )
            revisions[(*annotator, candidate)] = judgement.revision
            answers[annotator].pop(candidate, None)
            if score is not None:
                answers[annotator][candidate] = _Vote(score, judgement.id)
    return answers
