"""Agreement figures with bootstrap intervals: items are drawn again and all is recomputed."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.records import Record

if TYPE_CHECKING:
    from numpy.random import Generator

    from curation.coefficients import Array

RESAMPLES = 1000
CONFIDENCE = 0.95
FEW_ITEMS = 10
"""Fewer items than these that two annotators share say little about the two: no interval."""
_MOST_LABELS = 20
"""Of more labels neither the order nor the table of two annotators is looked at closely."""


class Figure(Record):
    """A coefficient and its bootstrap interval over items."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str | None = None
    """Why there is no value, or no interval."""


class PairAgreement(Record):
    """Two annotators on the items that both answered."""

    first: str
    second: str
    items: int
    percent: Figure
    tie_discounted: Figure
    cohen: Figure


class ItemFigures(NamedTuple):
    percent: Figure
    tie_discounted: Figure
    fleiss: Figure
    alpha_nominal: Figure
    alpha_ordinal: Figure


_NO_TIES = Figure(why="these labels have no tie")


def item_figures(
    counts: "Array", labels: Sequence[str], *, ordered: bool, tie: int | None, rng: "Generator"
) -> ItemFigures:
    """The figures of all annotators together.

    `counts (I, K)` holds how many annotators gave each label to each item, two or more an item.
    """
    import numpy as np

    from curation import coefficients

    if not len(counts):
        return ItemFigures(*[Figure(why="no item has answers of two annotators")] * 5)
    # Items answered alike are one pattern; drawing patterns is drawing items.
    patterns, times = np.unique(counts, axis=0, return_counts=True)
    drawn = rng.multinomial(len(counts), times / len(counts), size=RESAMPLES)
    weights = np.vstack([times, drawn]).astype(float)
    given = np.flatnonzero(counts.sum(0))
    one_label = f"every answer is '{labels[given[0]]}'" if len(given) == 1 else None
    few = "one item has no interval" if len(counts) == 1 else None

    def figure(values: "Array") -> Figure:
        return _figure(values[0], values[1:], undefined=one_label, no_interval=few)

    unordered = None if ordered else "the labels have no order"
    if ordered and len(labels) > _MOST_LABELS:
        unordered = f"there are {len(labels)} labels; expected at most {_MOST_LABELS}"
    return ItemFigures(
        percent=figure(coefficients.percent_agreement(weights, patterns)),
        tie_discounted=_NO_TIES
        if tie is None
        else figure(coefficients.tie_discounted(weights, patterns, tie)),
        fleiss=figure(coefficients.fleiss_kappa(weights, patterns)),
        alpha_nominal=figure(coefficients.nominal_alpha(weights, patterns)),
        alpha_ordinal=Figure(why=unordered)
        if unordered
        else figure(coefficients.ordinal_alpha(weights, patterns)),
    )


def pair_figures(
    answers: Sequence[tuple[int, str, int]],
    labels: Sequence[str],
    *,
    tie: int | None,
    rng: "Generator",
) -> tuple[PairAgreement, ...]:
    """The figures of every two annotators who share an item, those who share the most first.

    `answers` are item, annotator and label by number, one an annotator and item.
    """
    names = sorted({annotator for _, annotator, _ in answers})
    number = {name: index for index, name in enumerate(names)}
    pairs = [
        PairAgreement(
            first=names[first],
            second=names[second],
            items=int(table.sum()),
            **_table_figures(table, labels, tie, rng),
        )
        for first, second, table in _tables(
            [(item, number[name], label) for item, name, label in answers], len(names), len(labels)
        )
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.items, pair.first, pair.second)))


def _tables(
    answers: Sequence[tuple[int, int, int]], annotators: int, labels: int
) -> Iterator[tuple[int, int, "Array"]]:
    """Each two annotators, the lower number first, with their table of labels (K, K)."""
    import numpy as np

    # Sorted by item, then annotator: of any two answers to an item the lower number comes first.
    ordered = np.array(sorted(answers), dtype=np.int64).reshape(-1, 3)
    _, starts, sizes = np.unique(ordered[:, 0], return_index=True, return_counts=True)
    left, right = [], []
    for size in np.unique(sizes):
        one, other = np.triu_indices(size, 1)
        begins = starts[sizes == size][:, None]
        left.append((begins + one).ravel())
        right.append((begins + other).ravel())
    if sizes.max(initial=0) < 2:
        return
    first, second = ordered[np.concatenate(left)], ordered[np.concatenate(right)]
    pair = first[:, 1] * annotators + second[:, 1]
    cell = first[:, 2] * labels + second[:, 2]
    by_pair = np.argsort(pair, kind="stable")
    pair, cell = pair[by_pair], cell[by_pair]
    found, begins = np.unique(pair, return_index=True)
    for code, cells in zip(found, np.split(cell, begins[1:]), strict=True):
        table = np.bincount(cells, minlength=labels**2).reshape(labels, labels)
        yield int(code // annotators), int(code % annotators), table.astype(float)


def _table_figures(
    table: "Array", labels: Sequence[str], tie: int | None, rng: "Generator"
) -> dict[str, Figure]:
    import numpy as np

    from curation import coefficients

    shared = int(table.sum())
    no_interval = None
    if shared < FEW_ITEMS:
        no_interval = f"{shared} shared items are too few for an interval"
    elif len(labels) > _MOST_LABELS:
        no_interval = f"{len(labels)} labels are too many for an interval"
    tables = table[None]
    if no_interval is None:
        drawn = rng.multinomial(shared, table.ravel() / shared, size=RESAMPLES)
        tables = np.concatenate([tables, drawn.reshape(-1, *table.shape)])
    given = np.flatnonzero(table.sum(0) + table.sum(1))
    one_label = f"both answer '{labels[given[0]]}' always" if len(given) == 1 else None

    def figure(coefficient: Callable[..., "Array"], *args: Any) -> Figure:
        values = coefficient(tables, *args)
        return _figure(values[0], values[1:], undefined=one_label, no_interval=no_interval)

    return {
        "percent": figure(coefficients.table_percent),
        "tie_discounted": _NO_TIES
        if tie is None
        else figure(coefficients.table_tie_discounted, tie),
        "cohen": figure(coefficients.cohen_kappa),
    }


def _figure(
    value: Any, drawn: "Array", *, undefined: str | None, no_interval: str | None
) -> Figure:
    import numpy as np

    if not np.isfinite(value):
        return Figure(why=undefined or "agreement by chance is complete")
    if no_interval is not None:
        return Figure(value=float(value), why=no_interval)
    known = drawn[np.isfinite(drawn)]
    if len(known) < len(drawn) / 2:
        return Figure(value=float(value), why="most resamples hold one answer only")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(value=float(value), low=float(low), high=float(high))
