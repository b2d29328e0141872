"""From judgements to votes: who preferred which of two things, as aggregation and agreement count.

A vote is kept in one canonical order, whatever was shown first, so that equal questions meet. A
ranking of N candidates is N(N-1)/2 votes.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from schemas.records import Judgement

Side = Literal["left", "right"]


class Vote(NamedTuple):
    """One annotator's answer about two things."""

    item: str
    """What the two are answers to: a prompt's id, or a file's item."""
    left: str
    right: str
    """The two things; in votes made from judgements left < right."""
    annotator: str
    winner: Literal["left", "right", "tie"]
    shown_first: Side | None = None
    both_bad: bool = False
    judgement_id: str | None = None

    @property
    def pair(self) -> tuple[str, str, str]:
        return (self.item, self.left, self.right)


class CountedJudgements(NamedTuple):
    """The judgements that count, and why each other one does not."""

    kept: list[Judgement]
    left_out: Counter[str]
    """SUPERSEDED, DRAFT, DISCARDED, ASSISTED, EXCLUDED, OTHER_QUESTION, MACHINE."""


def counted_judgements(
    judgements: Iterable[Judgement],
    *,
    question: str = "overall",
    excluded: Collection[str] = (),
    assisted: bool = False,
) -> CountedJudgements:
    """People's latest submitted answers to one question, given before any machine's ranking showed.

    With `assisted` those given in sight of one count too: then they are no independent votes.

    Of one annotator's answers to one task the latest revision holds, also where it takes the
    answer back to a draft or discards it.
    """
    left_out: Counter[str] = Counter()
    latest: dict[tuple[str, ...], Judgement] = {}
    for judgement in judgements:
        if judgement.annotator.kind != "human":
            left_out["MACHINE"] += 1
        elif judgement.question != question:
            left_out["OTHER_QUESTION"] += 1
        else:
            key = _answered(judgement)
            before = latest.get(key)
            if before is not None:
                left_out["SUPERSEDED"] += 1
            if before is None or judgement.revision >= before.revision:
                latest[key] = judgement
    kept = []
    for judgement in latest.values():
        if judgement.status != "submitted":
            left_out[judgement.status.upper()] += 1
        elif judgement.mode == "assisted" and not assisted:
            left_out["ASSISTED"] += 1
        elif judgement.annotator.name in excluded:
            left_out["EXCLUDED"] += 1
        else:
            kept.append(judgement)
    return CountedJudgements(kept, left_out)


def votes_of(judgements: Iterable[Judgement]) -> list[Vote]:
    """The votes in the judgements' ranks; "both bad" without ranks is a tie.

    What has no ranks otherwise, scores alone or an answer taken back, holds no votes.
    """
    return [vote for judgement in judgements for vote in _votes(judgement)]


def _answered(judgement: Judgement) -> tuple[str, ...]:
    """What an answer is the answer to: a task, or else the candidates themselves."""
    asked: Sequence[str] = sorted(judgement.candidates)
    if judgement.task_id is not None:
        asked = [judgement.task_id]
    return (judgement.annotator.name, judgement.prompt_id, *asked)


def _votes(judgement: Judgement) -> Iterator[Vote]:
    ranks = judgement.ranks
    if ranks is None:
        if not judgement.both_bad:
            return
        ranks = (1,) * len(judgement.candidates)
    shown = dict(zip(judgement.candidates, ranks, strict=True))
    place = {candidate: index for index, candidate in enumerate(judgement.candidates)}
    for left, right in combinations(sorted(shown), 2):
        better = shown[left] - shown[right]
        yield Vote(
            item=judgement.prompt_id,
            left=left,
            right=right,
            annotator=judgement.annotator.name,
            winner="tie" if better == 0 else "left" if better < 0 else "right",
            shown_first="left" if place[left] < place[right] else "right",
            both_bad=judgement.both_bad,
            judgement_id=judgement.id,
        )
