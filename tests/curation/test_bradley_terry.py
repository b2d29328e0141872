"""Bradley-Terry against published scores, a closed form, and a simulation of its intervals."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.integrate import quad
from scipy.stats import norm

from curation.bradley_terry import PRIOR_VARIANCE, ItemScore, item_scores, strengths
from curation.votes import Vote
from curation.voting import aggregate_votes

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def vote(left: str, right: str, winner: Any = "left", *, item: str = "i", by: str = "a") -> Vote:
    return Vote(item, left, right, by, winner)


def scores(*votes: Vote) -> dict[str, ItemScore]:
    return {row.name: row for row in item_scores(strengths(votes))}


def test_the_golden_scores_of_food_to_eight_digits() -> None:
    path = DATA / "food_pairwise.jsonl"
    if not path.is_file():
        pytest.skip("shared/data/food_pairwise.jsonl is not beside the project")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    votes = [
        vote(row["left"], row["right"], row["winner"]) for row in rows if row["kind"] == "vote"
    ]
    golden = {row["item"]: row["score"] for row in rows if row.get("algorithm") == "bradley_terry"}
    found = {row.name: row.score for row in aggregate_votes(votes, "bradley-terry").items}
    assert len(golden) == 5
    assert found == pytest.approx(golden, abs=1e-8)


def test_two_things_score_their_shares_of_wins() -> None:
    found = scores(*[vote("x", "y")] * 3, vote("x", "y", "right"))
    assert (found["x"].score, found["y"].score) == (0.75, 0.25)
    assert not found["x"].regularised
    # d log share = (1 - share) * d log odds, whose variance is 1 / (n p (1 - p)).
    spread = 1.959964 * 0.25 / math.sqrt(4 * 0.75 * 0.25)
    assert found["x"].low == pytest.approx(0.75 * math.exp(-spread))
    assert found["x"].votes == 4


def test_who_never_lost_has_a_finite_score_that_says_so() -> None:
    found = scores(vote("x", "y"), vote("y", "z"))
    assert all(row.regularised for row in found.values())
    assert found["x"].score > found["y"].score > found["z"].score > 0
    assert found["x"].high <= 1


def test_the_posterior_of_one_win_is_near_that_of_the_exact_prior() -> None:
    ((_, fit),) = strengths([vote("x", "y")])
    sd = math.sqrt(2 * PRIOR_VARIANCE)

    def density(gap: float) -> float:
        return float(norm.pdf(gap, scale=sd)) / (1 + math.exp(-gap))

    exact = quad(density, 0, 30)[0] / quad(density, -30, 30)[0]
    assert fit.p_better(0, 1) == pytest.approx(exact, abs=0.02)
    # Were the share of wins uniform, it were 3/4.
    assert fit.p_better(0, 1) == pytest.approx(0.75, abs=0.01)
    assert fit.p_better(0, 1) + fit.p_better(1, 0) == pytest.approx(1)


def test_the_posterior_is_about_strength_and_not_about_winning_a_vote() -> None:
    ((_, fit),) = strengths([vote("x", "y")] * 600 + [vote("x", "y", "right")] * 400)
    assert fit.p_better(0, 1) > 0.999


def test_indirect_votes_inform_a_pair() -> None:
    alone = aggregate_votes([vote("x", "z")], "bradley-terry").pairs[0]
    votes = [vote("x", "z"), *[vote("x", "y")] * 3, *[vote("y", "z")] * 3]
    (helped,) = [
        row
        for row in aggregate_votes(votes, "bradley-terry").pairs
        if row.right == "z" and row.left == "x"
    ]
    assert helped.p_left > alone.p_left > 0.5


def test_things_that_no_vote_connects_are_scored_apart() -> None:
    found = scores(vote("x", "y"), vote("v", "w"), vote("x", "y", item="other"))
    assert found["v"].score + found["w"].score == pytest.approx(1)


def test_intervals_cover_the_true_score_about_as_often_as_they_say() -> None:
    truth = [math.exp(value) for value in (-1.0, -0.5, 0.0, 0.3, 0.9)]
    share = [value / sum(truth) for value in truth]
    rng = random.Random(3)
    covered = []
    for _ in range(120):
        votes = []
        for _ in range(200):
            left, right = rng.sample(range(5), 2)
            won = rng.random() < truth[left] / (truth[left] + truth[right])
            votes.append(vote(str(left), str(right), "left" if won else "right"))
        found = scores(*votes)
        covered += [row.low <= share[int(name)] <= row.high for name, row in found.items()]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.025)
