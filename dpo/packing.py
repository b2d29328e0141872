"""Which conversations share a row of the batch."""

from bisect import bisect_left, insort
from collections.abc import Sequence

Pack = tuple[int, ...]
"""The conversations of one row of the batch, by their place."""


def best_fit(lengths: Sequence[int], room: int) -> list[Pack]:
    """Packs of at most `room` tokens that hold every conversation once, longest first.

    Best fit decreasing: each goes to the fullest pack that still takes it.

    Raises:
        ValueError: a conversation is longer than the room.
    """
    if max(lengths, default=0) > room:
        raise ValueError(f"a conversation of {max(lengths)} tokens does not fit a pack of {room}")
    packs: list[list[int]] = []
    free: list[tuple[int, int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        length = lengths[place]
        best = bisect_left(free, (length, 0))
        if best < len(free):
            left, pack = free.pop(best)
        else:
            left, pack = room, len(packs)
            packs.append([])
        packs[pack].append(place)
        insort(free, (left - length, pack))
    return [tuple(pack) for pack in packs]
