from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from curation.ranks import ranks_of

RELATIONS = st.lists(st.sampled_from(["left", "right", "tie", None]), min_size=10, max_size=10)


def test_who_beats_another_stands_above_and_ties_share() -> None:
    found = ranks_of([("a", "b"), ("b", "c")], [("b", "d")])
    assert found.ranks == {"a": 1, "b": 2, "d": 2, "c": 3}
    assert not found.circular


def test_a_circle_shares_a_rank_and_says_so() -> None:
    found = ranks_of([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")], [])
    assert found.ranks == {"a": 1, "b": 1, "c": 1, "d": 2}
    assert found.circular


def test_ties_that_no_ranking_can_keep_give_way_to_the_win() -> None:
    found = ranks_of([("a", "c")], [("a", "b"), ("b", "c")])
    assert found.ranks["a"] < found.ranks["c"]
    assert not found.circular


@given(RELATIONS)
def test_ranks_are_dense_and_no_win_is_turned(relations: list[str | None]) -> None:
    pairs = list(combinations("abcde", 2))
    found_by = dict(zip(pairs, relations, strict=True))
    beats = [
        two if said == "left" else two[::-1]
        for two, said in found_by.items()
        if said in ("left", "right")
    ]
    ties = [two for two, said in found_by.items() if said == "tie"]
    ranks, circular = ranks_of(beats, ties)
    assert set(ranks.values()) == set(range(1, len(set(ranks.values())) + 1))
    for better, worse in beats:
        assert ranks[better] <= ranks[worse]
        if not circular:
            assert ranks[better] < ranks[worse]
