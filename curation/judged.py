"""From a pairwise judge's verdicts to rankings, and how far the place shown swayed the judge.

A pair counts once both its orders have a verdict: one order alone may say where an answer stood
and not how good it is. Orders that differ are a tie.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from curation.aggregation import Unranked
from curation.bradley_terry import Strengths, strengths
from curation.posteriors import Pair, Winner, of_tally, tallies_of
from curation.votes import Vote, votes_of
from curation.voting import one_vote_each
from schemas.records import Judgement, Ranking

METHOD = "bradley-terry"
_DIGITS = 9
"""Strengths that are equal to so many decimals are equal: the fit's own error is below."""


class Orders(NamedTuple):
    """How the two orders of each pair compare."""

    pairs: int = 0
    unanswered: int = 0
    """An order has no verdict."""
    agreed: int = 0
    flipped: int = 0
    """The orders name different winners."""
    half_tied: int = 0
    """A winner in one order, a tie in the other."""
    first_won: int = 0
    """Verdicts for the answer shown first, among all that name a winner."""
    decided: int = 0
    """Verdicts that name a winner."""

    def plus(self, other: "Orders") -> "Orders":
        """Both counts, of other pairs."""
        return Orders(*(one + two for one, two in zip(self, other, strict=True)))

    @property
    def flip_share(self) -> float | None:
        """Of the pairs with a verdict in both orders."""
        answered = self.pairs - self.unanswered
        return self.flipped / answered if answered else None

    @property
    def first_share(self) -> float | None:
        """Half where the place has no say."""
        return self.first_won / self.decided if self.decided else None


def compare_orders(judgements: Iterable[Judgement]) -> Orders:
    """How the judgements of a pairwise judge agree between the orders shown."""
    judged = [item for item in judgements if _of_judge(item)]
    asked = {(item.prompt_id, item.annotator.name, *sorted(item.candidates)) for item in judged}
    votes = votes_of(judged)
    kinds: Counter[str] = Counter()
    for both in _in_both_orders(votes).values():
        winners = {vote.winner for vote in both}
        agreed = "agreed" if len(winners) == 1 else "half_tied" if "tie" in winners else "flipped"
        kinds[agreed] += 1
    decided = [vote for vote in votes if vote.winner != "tie"]
    return Orders(
        pairs=len(asked),
        unanswered=len(asked) - kinds.total(),
        agreed=kinds["agreed"],
        flipped=kinds["flipped"],
        half_tied=kinds["half_tied"],
        first_won=sum(vote.winner == vote.shown_first for vote in decided),
        decided=len(decided),
    )


def abstained(judgements: Iterable[Judgement]) -> Counter[str]:
    """How many judgements of a pairwise judge hold no verdict, by the reason they give."""
    return Counter(
        (item.rationale or "").partition(":")[0]
        for item in judgements
        if _of_judge(item) and item.ranks is None
    )


def rankings_from_judges(
    judgements: Iterable[Judgement], *, question: str = "overall"
) -> Iterator[Ranking | Unranked]:
    """One conclusion for each prompt whose answers a judge compared, in the judgements' order.

    Candidates are ranked by Bradley-Terry's strengths from the prompt's own verdicts. Where the
    strengths would set two apart against what the judge said of these two, a tie or the contrary,
    they and all between them share a rank. Of candidates that no chain of verdicts connects, the
    largest connected set is ranked. Strengths are no posterior: probabilities stay None.

    INCONCLUSIVE: no pair of the prompt has a verdict in both orders.
    """
    of_prompt: dict[str, list[Judgement]] = defaultdict(list)
    for item in judgements:
        if _of_judge(item) and item.question == question:
            of_prompt[item.prompt_id].append(item)
    both = _in_both_orders(vote for items in of_prompt.values() for vote in votes_of(items))
    counted = one_vote_each(vote for votes in both.values() for vote in votes)
    verdicts: dict[str, dict[Pair, Winner]] = defaultdict(dict)
    for pair, tally in tallies_of(counted).items():
        verdicts[pair[0]][pair] = of_tally(tally).winner
    fits: dict[str, list[Strengths]] = defaultdict(list)
    for prompt_id, fit in strengths(counted):
        fits[prompt_id].append(fit)
    for prompt_id, items in of_prompt.items():
        if prompt_id not in fits:
            yield Unranked(prompt_id, "INCONCLUSIVE")
            continue
        largest = min(fits[prompt_id], key=lambda fit: (-len(fit.names), fit.names))
        yield _ranking(prompt_id, largest, verdicts[prompt_id], items)


def _ranking(
    prompt_id: str,
    fit: Strengths,
    verdicts: Mapping[Pair, Winner],
    judgements: Sequence[Judgement],
) -> Ranking:
    strength = {
        name: round(float(mean), _DIGITS) for name, mean in zip(fit.names, fit.mean, strict=True)
    }
    order = sorted(fit.names, key=lambda name: (-strength[name], name))
    place = {name: at for at, name in enumerate(order)}
    # Whether the candidate at a place shares its rank with the next.
    joined = [strength[above] == strength[below] for above, below in pairwise(order)]
    contradicted = False
    for (_, left, right), winner in verdicts.items():
        if left not in place or strength[left] == strength[right]:
            continue
        above, below = sorted((left, right), key=place.__getitem__)
        if winner == "tie" or above != (left if winner == "left" else right):
            joined[place[above] : place[below]] = [True] * (place[below] - place[above])
            contradicted = True
    groups: list[list[str]] = [[order[0]]]
    for name, shares in zip(order[1:], joined, strict=True):
        if shares:
            groups[-1].append(name)
        else:
            groups.append([name])
    rank = {name: at for at, group in enumerate(groups, 1) for name in group}
    score = {
        name: sum(strength[member] for member in group) / len(group)
        for group in groups
        for name in group
    }
    return Ranking(
        prompt_id=prompt_id,
        candidates=fit.names,
        ranks=tuple(rank[name] for name in fit.names),
        scores=tuple(score[name] for name in fit.names),
        method=f"{METHOD}+circular" if contradicted else METHOD,
        judgement_ids=tuple(
            item.id
            for item in judgements
            if item.ranks is not None and set(item.candidates) <= place.keys()
        ),
    )


def _of_judge(judgement: Judgement) -> bool:
    return judgement.annotator.kind == "judge" and judgement.status == "submitted"


def _in_both_orders(votes: Iterable[Vote]) -> dict[tuple[Pair, str], list[Vote]]:
    """The votes of each pair and judge, where it has a verdict in each of the two orders."""
    given: dict[tuple[Pair, str], list[Vote]] = defaultdict(list)
    for vote in votes:
        given[vote.pair, vote.annotator].append(vote)
    return {
        key: cast
        for key, cast in given.items()
        if {vote.shown_first for vote in cast} == {"left", "right"}
    }
