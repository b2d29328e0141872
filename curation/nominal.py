"""What is probably true of each item that people gave one of several labels."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from curation.crowd import (
    Coded,
    Consensus,
    LabelRow,
    check_categories,
    coded,
    dawid_skene,
    label_shares,
    mace,
)

if TYPE_CHECKING:
    from curation.crowd import Array

LabelMethod = Literal["majority", "dawid-skene", "mace"]
LABEL_METHODS: tuple[LabelMethod, ...] = get_args(LabelMethod)
_EQUAL = 1e-9


class ItemLabel(NamedTuple):
    """What is concluded about one item."""

    item: str
    label: str | None
    """The most probable one; None where several are equally so."""
    probabilities: dict[str, float]
    """By label; majority: shares of the votes with one vote more for each label."""
    votes: int


class LabelResult(NamedTuple):
    method: LabelMethod
    items: list[ItemLabel]
    marginals: dict[str, float]
    """Each label's share among the items."""
    reliability: dict[str, float]
    """By annotator. dawid-skene: expected share of right labels; mace: the probability of not
    guessing; majority: the mean probability of the labels given."""


def aggregate_labels(
    labels: Iterable[LabelRow], method: LabelMethod = "dawid-skene"
) -> LabelResult:
    """What the labels say of every item; the order of the rows has no say.

    Raises:
        ValueError: the method is unknown, or there are too many different labels.
    """
    import numpy as np

    fits = {"majority": _majority, "dawid-skene": dawid_skene, "mace": mace}
    if method not in fits:
        raise ValueError(
            f"method '{method}' is unknown for labels; expected one of {', '.join(LABEL_METHODS)}"
        )
    data = coded(labels)
    check_categories(data.classes)
    found = fits[method](data)
    votes = np.bincount(data.item, minlength=len(data.items)).tolist()
    items = [
        ItemLabel(item, _most(row, found.classes), _by_name(row, found.classes), count)
        for item, row, count in zip(found.items, found.posterior, votes, strict=True)
    ]
    marginals = _by_name(found.marginals, found.classes)
    return LabelResult(method, items, marginals, found.reliability)


def _majority(data: Coded) -> Consensus:
    import numpy as np

    votes = np.bincount(data.item, minlength=len(data.items))[:, None]
    posterior = (label_shares(data) * votes + 1) / (votes + len(data.classes))
    given = posterior[data.item, data.label]
    count = np.bincount(data.annotator, minlength=len(data.annotators))
    mean = np.bincount(data.annotator, given, len(data.annotators)) / np.maximum(count, 1)
    reliability = dict(zip(data.annotators, mean.tolist(), strict=True))
    marginals = label_shares(data).mean(axis=0) if data.items else np.zeros(0)
    return Consensus(data.items, data.classes, posterior, marginals, reliability, 0)


def _most(row: "Array", classes: tuple[str, ...]) -> str | None:
    best = row.max()
    top = [name for name, value in zip(classes, row, strict=True) if best - value < _EQUAL]
    return top[0] if len(top) == 1 else None


def _by_name(row: "Array", classes: tuple[str, ...]) -> dict[str, float]:
    return dict(zip(classes, row.tolist(), strict=True))
