"""How often a reward model is right on held-out pairs, between what is easy and what is possible.

Accuracy is the share of pairs whose chosen answer scores higher; a tie in scores counts one half.
Beside it stand a floor (the longer answer wins) and a ceiling: labels are wrong at times, and a
judge who always knows the truth is marked down where they are.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import Literal, NamedTuple

from dpo.statistics import FEW_PROMPTS
from schemas.records import Record

_BINS = 10


class ScoredPair(NamedTuple):
    """A held-out pair under the reward model."""

    prompt_id: str
    chosen: float | None
    """The chosen answer's score; None where the model abstains."""
    rejected: float | None
    chosen_length: int
    rejected_length: int
    p_chosen: float | None = None
    """The posterior that chosen is truly better; None where it is not known."""


class LabelAgreement(NamedTuple):
    """What is known of the people behind the labels."""

    agreement: float
    """How often two annotators say the same of a pair, ties left out."""
    votes: int = 1
    """How many votes make a label, by majority."""


class Accuracy(Record):
    """A share of pairs with its 95 % interval; None where there is no pair."""

    share: float | None
    low: float | None = None
    high: float | None = None
    pairs: int
    prompts: int
    note: str | None = None

    def __str__(self) -> str:
        if self.share is None or self.low is None or self.high is None:
            return "not known"
        return (
            f"{self.share:.1%} of {self.pairs} pairs (95% interval {self.low:.1%} to "
            f"{self.high:.1%})"
        )


class Ceiling(Record):
    """The accuracy of a judge who knows the truth, measured against labels that err."""

    accuracy: float
    kind: Literal["vote", "majority", "posterior"]
    """Against one vote; against a majority of votes; by the pairs' own p_chosen."""
    annotator_accuracy: float | None = None
    votes: int | None = None
    assumes: str


class CalibrationBin(Record):
    """Pairs of which the model is about equally sure."""

    low: float
    high: float
    n: int
    predicted: float
    """Mean probability that the answer the model prefers is the better one."""
    observed: float
    """How often it is, by the labels."""


class HeldOut(Record):
    """What held-out pairs say about a reward model."""

    accuracy: Accuracy
    floor: Accuracy
    """The longer answer wins, on the same pairs."""
    ceiling: Ceiling | None
    ties: int
    """Pairs whose answers score exactly alike."""
    abstained: int
    """Pairs that the model did not score, which count nowhere else."""
    calibration: tuple[CalibrationBin, ...]
    """Of 10 equal bins from 0.5 to 1 those that hold a pair."""
    calibration_error: float | None
    """Mean distance of predicted and observed over the bins, by their pairs."""
    brier: float | None
    """Mean squared distance of the predicted probability and the outcome."""

    def alarms(self) -> list[str]:
        """What should make a reader doubt the model, or the measurement."""
        found = []
        low, floor = self.accuracy.low, max(0.5, self.floor.share or 0)
        if low is not None and self.ceiling is not None and low > self.ceiling.accuracy:
            found.append(
                f"LEAK: held-out accuracy is {self.accuracy}, above the {self.ceiling.accuracy:.1%}"
                " that a judge who knows the truth would reach against these labels; held-out "
                "pairs may have been trained on, or "
                + (
                    "p_chosen is lower than the labels deserve"
                    if self.ceiling.kind == "posterior"
                    else "annotators do not err independently"
                )
            )
        if low is not None and low <= floor:
            found.append(
                f"AT_FLOOR: held-out accuracy is {self.accuracy}, not clearly above the {floor:.1%}"
                " of the better of a coin and `the longer answer wins`"
            )
        return found


def measure(pairs: Sequence[ScoredPair], agreement: LabelAgreement | None = None) -> HeldOut:
    """Accuracy, floor, ceiling and calibration over the pairs that the model scored.

    The ceiling comes from the annotators' agreement where it is given, else from the pairs'
    p_chosen where each has one.

    Raises:
        ValueError: the agreement is no share, or there are no votes.
    """
    scored = [pair for pair in pairs if pair.chosen is not None and pair.rejected is not None]
    differences = [(pair.chosen or 0.0) - (pair.rejected or 0.0) for pair in scored]
    prompts = [pair.prompt_id for pair in scored]
    longer = [_won(pair.chosen_length - pair.rejected_length) for pair in scored]
    labels = [1.0 if pair.p_chosen is None else pair.p_chosen for pair in scored]
    bins = _calibration(differences, labels)
    return HeldOut(
        accuracy=clustered(list(map(_won, differences)), prompts),
        floor=clustered(longer, prompts),
        ceiling=posterior_ceiling(scored) if agreement is None else ceiling(agreement),
        ties=sum(difference == 0 for difference in differences),
        abstained=len(pairs) - len(scored),
        calibration=tuple(bins),
        calibration_error=(
            sum(item.n * abs(item.predicted - item.observed) for item in bins) / len(scored)
            if scored
            else None
        ),
        brier=_brier(differences, labels),
    )


def _won(difference: float) -> float:
    return 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0


def clustered(values: Sequence[float], prompts: Sequence[str]) -> Accuracy:
    """The mean of values between 0 and 1, with Wilson's interval for pairs that share prompts.

    Wilson (1927) on the effective number of pairs: their number over the design effect, which is
    the cluster-robust variance of the mean over that of independent pairs, and at least 1. With one
    pair a prompt it is the plain interval. Where all values are 0 or all are 1, no variance can be
    seen, and the prompts count as one pair each.
    """
    n, groups = len(values), defaultdict(list)
    for value, prompt in zip(values, prompts, strict=True):
        groups[prompt].append(value)
    if not n:
        return Accuracy(share=None, pairs=0, prompts=0, note="no pair to measure on")
    mean = fmean(values)
    independent = mean * (1 - mean) / n
    effective = float(len(groups))
    if independent > 0:
        robust = sum(sum(value - mean for value in own) ** 2 for own in groups.values()) / n**2
        effective = n / max(1.0, robust / independent)
    low, high = _wilson(mean, effective)
    few = f"{len(groups)} prompts only: the true interval is wider"
    return Accuracy(
        share=mean,
        low=low,
        high=high,
        pairs=n,
        prompts=len(groups),
        note=few if len(groups) < FEW_PROMPTS else None,
    )


def _wilson(share: float, n: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.975)
    slack = z * z / n
    half = math.sqrt(share * (1 - share) * slack + slack * slack / 4)
    middle = share + slack / 2
    return max(0.0, (middle - half) / (1 + slack)), min(1.0, (middle + half) / (1 + slack))


def annotator_accuracy(agreement: float) -> float | None:
    """How often one annotator is right, if two of them agree so often; None below 0.5.

    Two annotators who are right with probability a, each on their own, agree when both are right
    or both are wrong: p = a^2 + (1 - a)^2 = 2 a^2 - 2 a + 1. Of its two solutions the one that is
    at least 0.5 is taken. Independence given the truth is assumed: people who err alike on hard
    pairs agree more often than they are right. Agreement below 0.5 fits no accuracy.

    Raises:
        ValueError: the agreement is not between 0 and 1.
    """
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement is {agreement}; expected a share between 0 and 1")
    return None if agreement < 0.5 else (1 + math.sqrt(2 * agreement - 1)) / 2


def majority_accuracy(accuracy: float, votes: int) -> float:
    """How often the majority of so many votes is right, each right with that probability.

    Binomial, so the votes are independent given the truth. An even number of votes may tie: such a
    pair has no label and is left out.

    Raises:
        ValueError: there is no vote.
    """
    if votes < 1:
        raise ValueError(f"a label of {votes} votes; expected at least 1")

    def exactly(right: int, share: float) -> float:
        return math.comb(votes, right) * share**right * (1 - share) ** (votes - right)

    most = range(votes // 2 + 1, votes + 1)
    right = math.fsum(exactly(count, accuracy) for count in most)
    wrong = math.fsum(exactly(count, 1 - accuracy) for count in most)
    return right / (right + wrong)


def ceiling(labels: LabelAgreement) -> Ceiling | None:
    """The accuracy of a judge who knows the truth against labels of so many votes.

    None where two annotators agree on less than half of the pairs: no accuracy explains that.
    """
    alone = annotator_accuracy(labels.agreement)
    if alone is None:
        return None
    return Ceiling(
        accuracy=majority_accuracy(alone, labels.votes),
        kind="vote" if labels.votes == 1 else "majority",
        annotator_accuracy=alone,
        votes=labels.votes,
        assumes="annotators are equally good and err independently of each other",
    )


def posterior_ceiling(pairs: Sequence[ScoredPair]) -> Ceiling | None:
    """The mean of p_chosen: how many labels are right, if the posteriors are.

    None where a pair has no p_chosen, or there is no pair.
    """
    known = [pair.p_chosen for pair in pairs if pair.p_chosen is not None]
    if not known or len(known) < len(pairs):
        return None
    return Ceiling(
        accuracy=fmean(known), kind="posterior", assumes="p_chosen is as often right as it says"
    )


def _calibration(differences: Sequence[float], labels: Sequence[float]) -> list[CalibrationBin]:
    """Each pair is looked at from the answer that the model prefers.

    Seen from chosen, which every label prefers, each bin would observe 1.
    """
    bins = defaultdict(list)
    for difference, p_chosen in zip(differences, labels, strict=True):
        predicted = _sigmoid(abs(difference))
        observed = p_chosen if difference > 0 else 1 - p_chosen if difference < 0 else 0.5
        bins[min(int((predicted - 0.5) * 2 * _BINS), _BINS - 1)].append((predicted, observed))
    return [
        CalibrationBin(
            low=0.5 + number / (2 * _BINS),
            high=0.5 + (number + 1) / (2 * _BINS),
            n=len(own),
            predicted=fmean(predicted for predicted, _ in own),
            observed=fmean(observed for _, observed in own),
        )
        for number, own in sorted(bins.items())
    ]


def _brier(differences: Sequence[float], labels: Sequence[float]) -> float | None:
    """Brier (1950); the outcome is 1 with probability p_chosen, so it is the expected score."""
    if not differences:
        return None
    chosen = list(map(_sigmoid, differences))
    return fmean(
        p * (1 - predicted) ** 2 + (1 - p) * predicted**2
        for predicted, p in zip(chosen, labels, strict=True)
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
