"""Packs: whole conversations, each once, none too full."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo.packing import best_fit


def test_each_goes_to_the_fullest_pack_that_takes_it() -> None:
    # By hand: 5 and 4 open packs of their own, with room for 1 and 2; 2 fills one and 1 the other.
    assert best_fit([1, 5, 2, 4], 6) == [(1, 0), (3, 2)]


def test_a_conversation_longer_than_the_room_is_refused() -> None:
    with pytest.raises(ValueError, match="7 tokens does not fit a pack of 6"):
        best_fit([7], 6)


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 40))
def test_every_conversation_is_in_one_pack_within_the_room(lengths: list[int], room: int) -> None:
    packs = best_fit(lengths, room)
    assert sorted(place for pack in packs for place in pack) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in pack) <= room for pack in packs)


@pytest.mark.parametrize("seed", range(4))
def test_trl_needs_as_many_packs(seed: int) -> None:
    from datasets import Dataset
    from trl import pack_dataset

    rng = Random(seed)
    lengths = [rng.randint(1, 20) for _ in range(40)]
    rows = Dataset.from_dict({"input_ids": [[0] * length for length in lengths]})
    assert len(best_fit(lengths, 20)) == len(pack_dataset(rows, 20, "bfd"))
