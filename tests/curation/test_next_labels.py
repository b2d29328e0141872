"""Which pairs to ask about next, and how many labels are missing, against worlds that are known."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.next_labels import (
    agreement_of,
    disagreements,
    labels_until_decided,
    labels_until_width,
    next_pairs,
)
from curation.posteriors import majority_posterior, tallies_of
from curation.votes import Vote
from curation.voting import aggregate_votes

SAID = {"l": "left", "r": "right", "t": "tie"}


def cast(item: str, said: str) -> list[Vote]:
    return [
        Vote(item, "x", "y", f"a{number}", SAID[each])  # type: ignore[arg-type]
        for number, each in enumerate(said)
    ]


def world(
    pairs: int, votes: int, seed: int, *, weights: tuple[float, float, float] = (2, 2, 1)
) -> tuple[list[list[float]], list[Vote]]:
    """Each pair's true shares of left, right and tie, and a few votes drawn from them."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(weights, pairs).tolist()
    said = [rng.choice(list("lrt"), size=votes, p=share) for share in shares]
    return shares, [vote for item, each in enumerate(said) for vote in cast(f"{item:04}", each)]


def test_how_far_people_agree_is_found_again() -> None:
    _, votes = world(3000, 4, 0, weights=(0.8, 0.8, 0.4))
    found = agreement_of(tallies_of(votes).values())
    assert found.fitted
    assert (found.side, found.tie) == pytest.approx((0.8, 0.4), rel=0.15)


def test_single_votes_do_not_tell_how_far_people_agree() -> None:
    _, votes = world(100, 1, 0)
    found = agreement_of(tallies_of(votes).values())
    assert (found.side, found.tie, found.fitted) == (1.0, 1.0, False)


def test_gains_by_hand() -> None:
    # Shares uniform. No vote: p is 1/2; a vote for a side, 2 in 3, makes it 3/4, a tie leaves it.
    votes = cast("once", "l")
    unvoted, once = next_pairs(votes, 2, unvoted=[("new", "x", "y")])
    assert (unvoted.pair[0], unvoted.votes) == ("new", 0)
    assert unvoted.gain == pytest.approx(2 / 3 * (1 / 4 - 3 / 16))
    # Once: from 3/4 to 7/8 (half of the time), to 1/2 or 0.7122 (a quarter each).
    doubt = (7 / 64 / 2) + (1 / 4 / 4) + (0.7122 * 0.2878 / 4)
    assert once.gain == pytest.approx(3 / 16 - doubt, abs=1e-4)


def test_the_next_vote_goes_where_it_tells_most() -> None:
    votes = [*cast("once", "l"), *cast("split", "lr"), *cast("agreed", "lll")]
    order = [item.pair[0] for item in next_pairs(votes, 9, unvoted=[("new", "x", "y")])]
    assert order[0] == "new"
    assert order[-1] == "agreed"
    assert order.index("once") < order.index("agreed")


def test_what_cannot_be_asked_again_is_skipped_whatever_the_order_of_its_sides() -> None:
    votes = [*cast("p", "l"), *cast("q", "l")]
    assert [item.pair[0] for item in next_pairs(votes, 5, skip=[("p", "y", "x")])] == ["q"]


@given(st.randoms(use_true_random=False), st.integers(0, 6))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_rows_has_no_say(rng: random.Random, n: int) -> None:
    _, votes = world(12, 2, 1)
    shuffled = votes[:]
    rng.shuffle(shuffled)
    assert next_pairs(shuffled, n) == next_pairs(votes, n)
    assert len(next_pairs(votes, n)) == n


@pytest.mark.parametrize("weights", [(1.5, 1.5, 0.3), (8.0, 2.0, 1.0)])
def test_asked_pairs_beat_random_ones_where_the_truth_is_known(
    weights: tuple[float, float, float],
) -> None:
    right = {"next": 0, "random": 0}
    for seed in range(4):
        shares, _ = world(300, 1, seed, weights=weights)
        for chooser in right:
            rng = random.Random(seed)
            votes = [vote for item in range(300) for vote in draw(shares, item, 0, rng)]
            count = Counter(dict.fromkeys(range(300), 1))
            for _ in range(20):
                if chooser == "next":
                    asked = [int(item.pair[0]) for item in next_pairs(votes, 30)]
                else:
                    asked = rng.sample(range(300), 30)
                for item in asked:
                    votes += draw(shares, item, count[item], rng)
                    count[item] += 1
            for row in aggregate_votes(votes).pairs:
                left, other, _ = shares[int(row.item)]
                right[chooser] += row.p_left != 0.5 and (row.p_left > 0.5) == (left > other)
    # Of 1,200 pairs.
    assert right["next"] > right["random"] + 12


def draw(shares: list[list[float]], item: int, number: int, rng: random.Random) -> list[Vote]:
    said = rng.choices("lrt", shares[item])[0]
    return [vote._replace(annotator=f"a{number}") for vote in cast(f"{item:04}", said)]


def really_needed(
    shares: list[list[float]], votes: list[Vote], certainty: float, share: float, seed: int
) -> int:
    """Labels that the rounds take in that very world."""
    rng = random.Random(seed)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        counts[vote.item][vote.winner] += 1
    spent = 0

    def open_items() -> list[str]:
        found = []
        for item, tally in counts.items():
            p_left = majority_posterior(tally["left"], tally["right"], tally["tie"]).p_left
            if 1 - certainty < p_left < certainty:
                found.append(item)
        return found

    while len(still := open_items()) > (1 - share) * len(counts):
        for item in still:
            counts[item][SAID[rng.choices("lrt", shares[int(item)])[0]]] += 1
            spent += 1
    return spent


@pytest.mark.parametrize("seed", range(4))
def test_the_estimate_holds_what_it_really_takes(seed: int) -> None:
    shares, votes = world(400, 3, seed)
    found = labels_until_decided(votes, certainty=0.9, share=0.7)
    assert found.low is not None
    assert found.high is not None
    real = really_needed(shares, votes, 0.9, 0.7, seed)
    assert 0.9 * found.low <= real <= 1.1 * found.high
    assert found.note is None
    assert found.pairs == 400


def test_split_people_are_never_decided() -> None:
    votes = [vote for item in range(30) for vote in cast(f"{item}", "t" * 8)]
    found = labels_until_decided(votes, certainty=0.95, share=0.9)
    assert found.labels is None
    assert found.reachable < 0.5


def test_what_is_reached_needs_no_more() -> None:
    votes = [vote for item in range(20) for vote in cast(f"{item}", "l" * 6)]
    found = labels_until_decided(votes, certainty=0.9, share=1.0)
    assert (found.labels, found.low, found.high, found.done) == (0, 0, 0, 20)


def test_few_repeated_pairs_are_said_to_be_a_guess() -> None:
    found = labels_until_decided(cast("p", "l"))
    assert found.note is not None
    assert "a guess" in found.note
    assert labels_until_decided([]).note == "no votes yet"


def test_the_width_of_an_interval_takes_the_votes_of_its_formula() -> None:
    # Uniform prior, all votes left: the interval of Beta(1 + n, 1) is 0.975^(1/(1+n)) -
    # 0.025^(1/(1+n)) wide: 0.5989 for n = 3, 0.5170 for n = 4.
    votes = [vote for item in range(20) for vote in cast(f"{item}", "l" * 4)]
    assert labels_until_width(votes, width=0.52, share=1.0).labels == 0
    assert labels_until_width(votes, width=0.51, share=1.0).done == 0
    wider = labels_until_width(votes, width=0.45).labels
    narrower = labels_until_width(votes, width=0.35).labels
    assert wider is not None
    assert narrower is not None
    assert 0 < wider < narrower


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certainty": 0.5}, "certainty is 0.5; expected more than 0.5"),
        ({"share": 0.0}, "share is 0.0; expected more than 0"),
    ],
)
def test_wishes_beyond_reason_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels_until_decided(cast("p", "l"), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width is 2; expected more than 0"):
        labels_until_width(cast("p", "l"), width=2)


def test_adjudicators_see_the_doubtful_pairs_first() -> None:
    votes = [
        *cast("even", "lr"),
        *cast("two to one", "llr"),
        *cast("three to two", "lllrr"),
        *cast("agreed", "lll"),
        *cast("nearly", "lllr"),
        *cast("ties", "tttl"),
        *cast("one vote", "l"),
        *cast("ruled", "lr"),
    ]
    ruling = [Vote("ruled", "x", "y", "z", "left")]
    found = disagreements(aggregate_votes(votes, adjudications=ruling).pairs)
    assert [pair[0] for pair in found] == ["even", "three to two", "two to one"]
    everything = disagreements(aggregate_votes(votes).pairs, settled=1.0)
    assert {pair[0] for pair in everything} >= {"nearly", "ties", "ruled"}
