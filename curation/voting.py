"""From many people's votes to what is probably true: verdicts, rankings, whom to trust.

Every method gives `p_left`, the posterior that left is truly better, a tie counting half to each
side: P(left better) + P(tie) / 2. So the two orders of a pair add up to 1, and it is the
expectation that the soft DPO loss asks for. docs/design/aggregation.md derives each.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from curation.aggregation import Unranked
from curation.bradley_terry import ItemScore, item_scores
from curation.conflicts import conflicting_answers
from curation.posteriors import (
    FITS,
    METHODS,
    Fitted,
    Pair,
    VoteMethod,
    Winner,
    canonical,
    of_tally,
    tallies_of,
)
from curation.ranks import ranks_of
from curation.votes import Vote, counted_judgements, votes_of
from schemas.records import Judgement, Ranking


class PairVerdict(NamedTuple):
    """What is concluded about two things."""

    item: str
    left: str
    right: str
    winner: Winner
    p_left: float
    """The posterior that left is truly better, a tie counting half."""
    p_tie: float | None
    """The posterior of a true tie, where the method knows ties."""
    left_votes: int
    right_votes: int
    tie_votes: int
    both_bad: int
    """How many of the ties said that both are bad."""
    adjudicated: bool = False
    """An adjudicator's answer stands; the votes counted here do not decide."""

    @property
    def pair(self) -> Pair:
        return (self.item, self.left, self.right)

    @property
    def votes(self) -> int:
        return self.left_votes + self.right_votes + self.tie_votes


class AnnotatorWeight(NamedTuple):
    """How far the method trusts an annotator."""

    annotator: str
    votes: int
    reliability: float | None
    """dawid-skene: expected share of right votes; mace: the probability that the annotator does
    not guess; else: the share of votes equal to the majority of the others', None without any."""


class VoteResult(NamedTuple):
    method: VoteMethod
    pairs: list[PairVerdict]
    """By item, left, right."""
    annotators: list[AnnotatorWeight]
    items: list[ItemScore]
    """Bradley-Terry's scores; empty for the other methods."""


def aggregate_votes(
    votes: Iterable[Vote],
    method: VoteMethod = "majority",
    *,
    adjudications: Iterable[Vote] = (),
) -> VoteResult:
    """What the votes say of every pair, by one method; the order of the rows has no say.

    Adjudications are kept out of the fit. Where there is one, it is the verdict, and its majority
    posterior is the pair's.

    Raises:
        ValueError: the method is unknown, or a vote compares a thing with itself.
    """
    cast = [canonical(vote) for vote in votes]
    fitted, verdicts = _conclude(cast, method, adjudications)
    counts = Counter(vote.annotator for vote in cast)
    annotators = [
        AnnotatorWeight(name, counts[name], fitted.reliability.get(name)) for name in sorted(counts)
    ]
    return VoteResult(method, verdicts, annotators, list(item_scores(fitted.strengths)))


def rankings_from_votes(
    judgements: Iterable[Judgement],
    *,
    method: VoteMethod = "majority",
    question: str = "overall",
    excluded: Collection[str] = (),
    min_votes: int = 1,
    known: Collection[str] | None = None,
    assisted: bool = False,
    hold_out_conflicts: bool = True,
) -> Iterator[Ranking | Unranked]:
    """One conclusion for each prompt that people were asked about, by prompt id.

    Votes count as `counted_judgements` says, one an annotator and pair (`one_vote_each`). All
    judgements are fitted together, so they must come in one call. A pair with fewer than
    `min_votes` is not known: its probability is None, as that of a pair nobody voted on. An
    adjudicator's answer wins over votes.

    Answers to gold questions inform the fit; they rank only candidates that are all in `known`,
    the `text_id`s of the road's own. An answer whose criteria contradict it is held out.

    With `assisted`, answers given in sight of a machine's ranking count too. The method of a
    ranking is marked `+assisted` where one did, `+adjudication` where an adjudicator ruled and
    `+circular` where candidates beat each other in a circle and so share a rank.
    """
    asked = [item for item in judgements if item.annotator.kind == "human"]
    counted = counted_judgements(
        asked, question=question, excluded=excluded, assisted=assisted
    ).kept
    held_out = conflicting_answers(asked, question=question) if hold_out_conflicts else set()
    kept = sorted((item for item in counted if item.id not in held_out), key=lambda item: item.id)

    def of_the_road(judgement: Judgement) -> bool:
        if judgement.purpose != "gold":
            return True
        return known is not None and all(name in known for name in judgement.candidates)

    rulings = [item for item in kept if item.purpose == "adjudication"]
    voted = [item for item in kept if item.purpose != "adjudication"]
    fitted, concluded = _conclude(
        one_vote_each(votes_of(voted)), method, one_vote_each(votes_of(rulings))
    )
    road = [item for item in kept if of_the_road(item)]
    road_pairs = {vote.pair for vote in votes_of(road)}
    verdicts: dict[str, list[PairVerdict]] = defaultdict(list)
    for verdict in concluded:
        if verdict.pair in road_pairs and (verdict.adjudicated or verdict.votes >= min_votes):
            verdicts[verdict.item].append(verdict)
    behind: dict[str, list[str]] = defaultdict(list)
    for judgement in road:
        behind[judgement.prompt_id].append(judgement.id)
    strength = {
        (item, name): float(value)
        for item, fit in fitted.strengths
        for name, value in zip(fit.names, fit.mean, strict=True)
    }
    in_sight = {item.prompt_id for item in road if item.mode == "assisted"}
    in_conflict = {item.prompt_id for item in counted if item.id in held_out}
    for prompt_id in sorted(
        {item.prompt_id for item in asked if item.question == question and of_the_road(item)}
    ):
        if found := verdicts[prompt_id]:
            by = f"{method}+assisted" if prompt_id in in_sight else method
            yield _ranking(prompt_id, by, found, behind[prompt_id], strength)
        else:
            conflict = prompt_id in in_conflict and not behind[prompt_id]
            yield Unranked(prompt_id, "SIGNAL_CONFLICT" if conflict else "INCONCLUSIVE")


def one_vote_each(votes: Iterable[Vote]) -> list[Vote]:
    """One vote an annotator and pair: answers that differ, as in both orders shown, are a tie."""
    given: dict[tuple[Pair, str], list[Vote]] = defaultdict(list)
    for vote in votes:
        given[vote.pair, vote.annotator].append(vote)
    single = []
    for same in given.values():
        first, agree = same[0], len({vote.winner for vote in same}) == 1
        single.append(
            first._replace(
                winner=first.winner if agree else "tie",
                both_bad=all(vote.both_bad for vote in same),
                shown_first=first.shown_first if len(same) == 1 else None,
            )
        )
    return single


def _ranking(
    prompt_id: str,
    method: str,
    verdicts: Sequence[PairVerdict],
    judgement_ids: Sequence[str],
    strength: Mapping[tuple[str, str], float],
) -> Ranking:
    beats, ties = [], []
    for verdict in verdicts:
        two = (verdict.left, verdict.right)
        if verdict.winner == "tie":
            ties.append(two)
        else:
            beats.append(two if verdict.winner == "left" else two[::-1])
    found = ranks_of(beats, ties)
    names = sorted(found.ranks)
    p_of: dict[tuple[str, str], float] = {}
    for verdict in verdicts:
        apart = found.ranks[verdict.left] != found.ranks[verdict.right]
        # A tie that ranks could not keep must not look like a preference.
        p_left = 0.5 if verdict.winner == "tie" and apart else verdict.p_left
        p_of[verdict.left, verdict.right] = p_left
        p_of[verdict.right, verdict.left] = 1 - p_left
    adjudicated = any(verdict.adjudicated for verdict in verdicts)
    scores = [strength[prompt_id, name] for name in names if (prompt_id, name) in strength]
    marks = ["adjudication"] * adjudicated + ["circular"] * found.circular
    return Ranking(
        prompt_id=prompt_id,
        candidates=tuple(names),
        ranks=tuple(found.ranks[name] for name in names),
        # An adjudicator may rule against them, and then they are no margin.
        scores=tuple(scores) if scores and not adjudicated else None,
        probabilities=tuple(tuple(p_of.get((one, two)) for two in names) for one in names),
        method="+".join([method, *marks]),
        judgement_ids=tuple(judgement_ids),
    )


def _conclude(
    cast: Sequence[Vote], method: VoteMethod, adjudications: Iterable[Vote]
) -> tuple[Fitted, list[PairVerdict]]:
    """The method's fit to canonical votes, and the verdicts, adjudicators' before the fit's."""
    if method not in METHODS:
        raise ValueError(f"method '{method}' is unknown; expected one of {', '.join(METHODS)}")
    tallies = tallies_of(cast)
    rulings = tallies_of(canonical(vote) for vote in adjudications)
    fitted = FITS[method](cast, tallies)
    verdicts = []
    for pair in sorted({*tallies, *rulings}):
        tally = tallies.get(pair, Counter())
        ruling = rulings.get(pair)
        found = fitted.posteriors[pair] if ruling is None else of_tally(ruling)
        verdicts.append(
            PairVerdict(
                *pair,
                winner=found.winner,
                p_left=found.p_left,
                p_tie=found.p_tie,
                left_votes=tally["left"],
                right_votes=tally["right"],
                tie_votes=tally["tie"],
                both_bad=tally["both_bad"],
                adjudicated=ruling is not None,
            )
        )
    return fitted, verdicts
