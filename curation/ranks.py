"""Ranks of a prompt's candidates from what was found about each two of them."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

Two = tuple[str, str]


class Ranks(NamedTuple):
    ranks: dict[str, int]
    """Dense: 1 is best, equals share."""
    circular: bool
    """Some beat each other in a circle, and share a rank for it."""


def ranks_of(beats: Collection[Two], ties: Collection[Two]) -> Ranks:
    """Ranks in which who beats another stands above, and who ties shares a rank.

    Candidates that beat each other in a circle share a rank. Ties that no ranking can keep (a ties
    with b and b with c, but a beats c) give way to the wins: there a and b, or b and c, stand apart
    although they tie, and whoever pairs them must ask what was found about the two.
    """
    names = sorted({name for two in (*beats, *ties) for name in two})
    both_ways = [*beats, *ties, *((right, left) for left, right in ties)]
    group: dict[str, int] = {}
    circular = False
    count = 0
    for members in _components(names, both_ways):
        inner = [two for two in beats if two[0] in members and two[1] in members]
        parts = _components(sorted(members), inner) if inner else [members]
        for part in parts:
            circular = circular or any(left in part and right in part for left, right in inner)
            group.update(dict.fromkeys(part, count))
            count += 1
    ranks = _depths(count, {(group[left], group[right]) for left, right in beats})
    return Ranks({name: ranks[group[name]] for name in names}, circular)


def _components(names: list[str], edges: Collection[Two]) -> list[set[str]]:
    """The strongly connected components."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    place = {name: at for at, name in enumerate(names)}
    rows = [place[left] for left, _ in edges]
    columns = [place[right] for _, right in edges]
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(names),) * 2)
    count, labels = connected_components(graph, directed=True, connection="strong")
    parts: list[set[str]] = [set() for _ in range(count)]
    for name, label in zip(names, labels, strict=True):
        parts[label].add(name)
    return parts


def _depths(count: int, beats: Collection[tuple[int, int]]) -> Mapping[int, int]:
    """For each of the groups, one more than the deepest that beats it; they form no circle."""
    depth = dict.fromkeys(range(count), 1)
    for _ in range(count):
        for above, below in beats:
            if above != below:
                depth[below] = max(depth[below], depth[above] + 1)
    return depth
