"""Rankings become pair proposals: which candidates of a prompt are set against each other.

No strategy pairs a tie or swaps a winner: what it picks is held against the ranking's own ranks.
Every prompt that gives no pair says why, and so does every candidate that is in none:

- TOO_FEW_CANDIDATES: fewer than two candidates with distinct texts.
- UNSCORED: fewer than two of them were ranked (no judgement, or the annotators abstained).
- TIE: all ranked candidates share one rank, whether all right, all wrong or all alike.
- UNCOMPARED: no two of different ranks were compared, so which is better is not known.
- BELOW_MARGIN: they differ, but by less than the strategy asks.
- EDIT_UNCHANGED: the edit changes nothing in the answer.
- NOT_CHOSEN: other candidates of the prompt were paired, or the strategy wanted none of them.
- SAME_TEXT: another candidate with the same text stands for this one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import index
from random import Random
from typing import ClassVar, Literal, NamedTuple

from curation.edits import Edit, edited
from curation.formats.rated import is_number
from schemas.interfaces import FAULTS, IndexPair, PairStrategy
from schemas.records import Candidate, PairProposal, Prompt, Ranking, Record


class UnpairedPrompt(Record):
    """A prompt that gave no pair."""

    prompt_id: str
    reason: str


class PromptPairs(NamedTuple):
    """What one prompt gave; its candidates number `used + len(unused)`."""

    prompt_id: str
    proposals: list[PairProposal]
    reason: str | None
    """Why there is no proposal; None where there is one."""
    used: int
    """How many candidates are a side of some proposal."""
    unused: dict[str, str]
    """Why each other candidate is in none, by candidate id."""


@dataclass(frozen=True)
class BestVsWorst:
    """One pair a prompt: a best candidate against a worst; among equals the `text_id` decides.

    Where the ranking knows probabilities, the two it knows that lie the most ranks apart, of
    several the likeliest.
    """

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]:
        place = {index: at for at, index in enumerate(_best_first(ranking))}

        def width(pair: IndexPair) -> tuple[int, float, int, int]:
            ranks, (chosen, rejected) = ranking.ranks, pair
            likely = _p_better(ranking, chosen, rejected) or 0.0
            return (ranks[rejected] - ranks[chosen], likely, -place[chosen], place[rejected])

        return sorted(_ordered_pairs(ranking), key=width)[-1:]


@dataclass(frozen=True)
class BestVsRandom:
    """One pair a prompt: a best candidate against one drawn from those that rank below it."""

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]:
        pairs = _ordered_pairs(ranking)
        below = [pair for pair in pairs if pair.chosen == pairs[0].chosen]
        return [rng.choice(below)] if below else []


@dataclass(frozen=True)
class AllPairs:
    """Each two candidates that the ranking sets apart."""

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]:
        return _ordered_pairs(ranking)


@dataclass(frozen=True)
class MaxMin:
    """One pair a prompt: the two candidates whose penalised scores lie furthest apart.

    The penalised score is `score - length_penalty * length`, as `max_min_p` of Online-RLHF (Dong
    et al., 2024) has it. Unlike there, only candidates that the ranking orders the same way are
    paired: a penalty may make a pair unworthy, it cannot swap a winner. The pair's own `margin`
    stays the difference of the unpenalised scores.

    Raises:
        ValueError: the ranking has no scores; or lengths count in tokens and a candidate has none.
    """

    margin: float = 0.0
    """Least difference of the penalised scores."""
    length_penalty: float = 0.0
    """Taken off the score for each unit of length."""
    unit: Literal["tokens", "characters"] = "tokens"
    """What length counts: sampled tokens with the end-of-sequence, or characters of the text."""
    reason_for_none: ClassVar[str] = "BELOW_MARGIN"

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("length_penalty", self.length_penalty)):
            if not is_number(value) or value < 0:
                raise ValueError(f"MaxMin: {name} is {value!r}; expected a finite number from 0 up")
        if self.unit not in ("tokens", "characters"):
            raise ValueError(f"MaxMin: unit is '{self.unit}'; expected tokens or characters")

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]:
        scores = self._penalised(candidates, ranking)
        gaps = {pair: scores[pair[0]] - scores[pair[1]] for pair in _ordered_pairs(ranking)}
        widest = max(gaps, key=gaps.__getitem__, default=None)
        if widest is None or gaps[widest] <= 0 or gaps[widest] < self.margin:
            return []
        return [widest]

    def _penalised(self, candidates: Sequence[Candidate], ranking: Ranking) -> list[float]:
        if ranking.scores is None:
            raise ValueError(
                f"ranking of prompt '{ranking.prompt_id}' has ranks but no scores, which MaxMin "
                "needs; use curation.pairs:BestVsWorst"
            )
        if self.length_penalty == 0:
            return list(ranking.scores)
        lengths = {candidate.text_id: self._length(candidate) for candidate in candidates}
        return [
            score - self.length_penalty * lengths[text_id]
            for score, text_id in zip(ranking.scores, ranking.candidates, strict=True)
        ]

    def _length(self, candidate: Candidate) -> int:
        if self.unit == "characters":
            return len(candidate.completion.text)
        if candidate.completion.token_ids is None:
            raise ValueError(
                f"candidate '{candidate.id}' has no token ids to count, as no model sampled it; "
                "use unit: characters"
            )
        return len(candidate.completion.token_ids)


def propose_pairs(
    items: Iterable[tuple[Prompt, Sequence[Candidate], Ranking | None]],
    strategy: PairStrategy,
    *,
    seed: int,
) -> Iterator[PromptPairs]:
    """What each prompt gives under the strategy, in the order of the items.

    Each prompt has its own random numbers, so neither its place nor its shard matters. The
    strategy gets the ranked candidates in the ranking's order. `p_chosen` is the ranking's
    probability where it knows one, `margin` its difference of scores.

    Raises:
        ValueError: a candidate or ranking belongs to another prompt, or the strategy picked two
            candidates that the ranking does not order so.
    """
    for prompt, candidates, ranking in items:
        distinct, unused = _distinct(prompt, candidates)
        ranked = _ranked(prompt, distinct, ranking)
        picked: list[IndexPair] = []
        reason: str | None = None
        if len(distinct) < 2:
            reason = "TOO_FEW_CANDIDATES"
        elif ranking is None or len(ranked) < 2:
            reason = "UNSCORED"
        elif len(set(ranking.ranks)) == 1:
            reason = "TIE"
        elif not _ordered_pairs(ranking):
            reason = "UNCOMPARED"
        else:
            picked = _picked(strategy, prompt, ranked, ranking, Random(f"{seed}:{prompt.id}"))
            if not picked:
                reason = getattr(strategy, "reason_for_none", "NOT_CHOSEN")
        proposals = []
        if ranking is not None:
            name = _name(strategy)
            proposals = [_proposal(prompt, ranked, ranking, pair, name) for pair in picked]
        sides = {side.id for pair in proposals for side in (pair.chosen, pair.rejected)}
        known = {candidate.id for candidate in ranked}
        for candidate in distinct.values():
            if candidate.id not in sides:
                of_candidate = "NOT_CHOSEN" if candidate.id in known else "UNSCORED"
                unused[candidate.id] = reason or of_candidate
        yield PromptPairs(prompt.id, proposals, reason, len(sides), unused)


def propose_edits(
    items: Iterable[tuple[Prompt, Sequence[Candidate]]],
    edit: Edit,
    name: str,
) -> Iterator[PromptPairs]:
    """Each candidate as rejected and its edit as chosen, or the other way round where the edit says
    that its text is `Worse`; what the edit leaves alone is not paired.

    The edited side names the edit in its origin and the candidate as its parent. Nobody judged
    these pairs: they have neither probability nor margin.
    """
    for prompt, candidates in items:
        distinct, unused = _distinct(prompt, candidates)
        proposals = []
        for candidate in distinct.values():
            pair = edited(prompt, candidate, edit, name)
            if pair is None:
                unused[candidate.id] = "EDIT_UNCHANGED"
                continue
            proposals.append(
                PairProposal(
                    prompt=prompt,
                    chosen=pair.chosen,
                    rejected=pair.rejected,
                    strategy=f"edit:{name}",
                )
            )
        reason = None
        if not proposals:
            reason = "EDIT_UNCHANGED" if distinct else "TOO_FEW_CANDIDATES"
        yield PromptPairs(prompt.id, proposals, reason, len(proposals), unused)


def _best_first(ranking: Ranking) -> list[int]:
    """Positions by rank; equals by `text_id`, so the order in which they came has no say."""
    places = range(len(ranking.candidates))
    return sorted(places, key=lambda index: (ranking.ranks[index], ranking.candidates[index]))


def _p_better(ranking: Ranking, better: int, worse: int) -> float | None:
    """The probability that the ranking knows of the two; None where it knows none."""
    return None if ranking.probabilities is None else ranking.probabilities[better][worse]


def _ordered(ranking: Ranking, better: int, worse: int) -> bool:
    """Whether the ranking sets one above the other.

    One with probabilities knows only the pairs that it has one for; of them it sets apart those
    above 0.5.
    """
    if ranking.ranks[better] >= ranking.ranks[worse]:
        return False
    return ranking.probabilities is None or (_p_better(ranking, better, worse) or 0.0) > 0.5


def _ordered_pairs(ranking: Ranking) -> list[IndexPair]:
    """Each two positions that the ranking sets apart, the better one first."""
    best_first = combinations(_best_first(ranking), 2)
    return [IndexPair(*pair) for pair in best_first if _ordered(ranking, *pair)]


def _picked(
    strategy: PairStrategy,
    prompt: Prompt,
    ranked: Sequence[Candidate],
    ranking: Ranking,
    rng: Random,
) -> list[IndexPair]:
    try:
        return [IndexPair(*map(index, pair)) for pair in strategy(prompt, ranked, ranking, rng)]
    except FAULTS as error:
        raise ValueError(
            f"strategy {_name(strategy)}, prompt '{prompt.id}': {type(error).__name__}: {error}; "
            "its code has to be mended: expected pairs of positions (--debug shows where)"
        ) from error


def _name(strategy: PairStrategy) -> str:
    return getattr(strategy, "__name__", type(strategy).__name__)


def _distinct(
    prompt: Prompt, candidates: Sequence[Candidate]
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """One candidate a text, by `text_id`, and the others with the reason SAME_TEXT."""
    distinct: dict[str, Candidate] = {}
    unused: dict[str, str] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.id):
        if candidate.prompt_id != prompt.id:
            raise ValueError(
                f"candidate '{candidate.id}' answers prompt '{candidate.prompt_id}', not "
                f"'{prompt.id}'; expected the prompt's own candidates"
            )
        first = distinct.setdefault(candidate.text_id, candidate)
        if first.id != candidate.id:
            unused[candidate.id] = "SAME_TEXT"
    return distinct, unused


def _ranked(
    prompt: Prompt, distinct: dict[str, Candidate], ranking: Ranking | None
) -> list[Candidate]:
    """The ranked candidates in the ranking's order."""
    if ranking is None:
        return []
    if ranking.prompt_id != prompt.id:
        raise ValueError(
            f"ranking '{ranking.id}' is of prompt '{ranking.prompt_id}', not '{prompt.id}'"
        )
    missing = [text_id for text_id in ranking.candidates if text_id not in distinct]
    if missing:
        raise ValueError(
            f"ranking of prompt '{prompt.id}' names candidate '{missing[0]}', which is not among "
            f"the prompt's {len(distinct)} candidates"
        )
    return [distinct[text_id] for text_id in ranking.candidates]


def _proposal(
    prompt: Prompt, ranked: Sequence[Candidate], ranking: Ranking, pair: IndexPair, strategy: str
) -> PairProposal:
    chosen, rejected = pair
    count = len(ranked)
    if not (0 <= chosen < count and 0 <= rejected < count):
        raise ValueError(
            f"strategy {strategy} picked candidates {chosen} and {rejected} of prompt "
            f"'{prompt.id}', which has {count} that are ranked"
        )
    if ranking.ranks[chosen] >= ranking.ranks[rejected]:
        raise ValueError(
            f"strategy {strategy} chose a candidate of rank {ranking.ranks[chosen]} over one of "
            f"rank {ranking.ranks[rejected]} for prompt '{prompt.id}'; chosen must rank better"
        )
    if not _ordered(ranking, chosen, rejected):
        p_better = _p_better(ranking, chosen, rejected)
        raise ValueError(
            f"strategy {strategy} chose a candidate of prompt '{prompt.id}' that is better with "
            f"probability {'unknown' if p_better is None else p_better}; expected more than 0.5"
        )
    scores = ranking.scores
    return PairProposal(
        prompt=prompt,
        chosen=ranked[chosen],
        rejected=ranked[rejected],
        p_chosen=_p_better(ranking, chosen, rejected),
        margin=None if scores is None else scores[chosen] - scores[rejected],
        strategy=strategy,
        judgement_ids=ranking.judgement_ids,
    )
