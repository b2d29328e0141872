"""What is probably true of each item, from labels of people who err: Dawid-Skene and MACE.

Both are fitted in logarithms on integer codes, in sorted order, so neither the order of the rows
nor hundreds of labels an item change or break a result. crowd-kit serves as the test's reference,
not as the engine: docs/design/aggregation.md says why.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Codes = np.ndarray[Any, np.dtype[np.int64]]

LabelRow = tuple[str, str, str]
"""Item, annotator, label; a repeated row counts again."""
MOST_ROUNDS = 1000
MOST_LABELS = 500
"""More different labels are measurements, and whether two are equal says little."""
PRIOR_RIGHT = 0.7
"""Of the labels put before an annotator's own, so many are right."""
CONVERGED = 1e-6
"""The fit ends once no posterior moves by more in one round."""


class Consensus(NamedTuple):
    """Axes: I items, K classes."""

    items: tuple[str, ...]
    classes: tuple[str, ...]
    posterior: "Array"
    """(I, K): the probability of each class, given all labels."""
    marginals: "Array"
    """(K): the classes' shares as fitted."""
    reliability: dict[str, float]
    """By annotator, 0 to 1; what it measures is the method's."""
    rounds: int


class Coded(NamedTuple):
    """Labels as integer codes (N) into sorted names; `mirror` maps each class to its opposite."""

    items: tuple[str, ...]
    annotators: tuple[str, ...]
    classes: tuple[str, ...]
    item: "Codes"
    annotator: "Codes"
    label: "Codes"
    mirror: tuple[int, ...] | None = None


def coded(labels: Iterable[LabelRow], mirror: dict[str, str] | None = None) -> Coded:
    """The labels as codes, sorted so that the order of the rows has no say.

    With `mirror` the classes are its keys, in its order, also where nobody gave one.
    """
    import numpy as np

    rows = sorted(labels)
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    names = [tuple(sorted(set(column))) for column in columns]
    if mirror is not None:
        names[2] = tuple(mirror)
    codes = [
        np.fromiter((place[value] for value in column), np.int64, len(column))
        for column, place in (
            (column, {name: at for at, name in enumerate(known)})
            for column, known in zip(columns, names, strict=True)
        )
    ]
    opposite = None if mirror is None else tuple(names[2].index(mirror[name]) for name in names[2])
    return Coded(names[0], names[1], names[2], codes[0], codes[1], codes[2], opposite)


def check_categories(labels: Iterable[str]) -> None:
    """Return unless there are more different labels than `MOST_LABELS`.

    Raises:
        ValueError: there are.
    """
    distinct = len(set(labels))
    if distinct > MOST_LABELS:
        raise ValueError(
            f"there are {distinct} different labels; expected at most {MOST_LABELS}, such as "
            "ratings from 1 to 5 (round numbers first, or name another column with --label)"
        )


def dawid_skene(data: Coded, *, prior_labels: float = 0.0) -> Consensus:
    """Classes and annotators' error rates by expectation maximisation.

    Dawid & Skene (1979), eq. 2.3 to 2.5, started from the shares of labels. `prior_labels` labels a
    class, of which `PRIOR_RIGHT` were right, are put before each annotator's own; 0 is the paper's
    model, which is certain too soon where an annotator gave few labels. Mirrored classes share
    their rates, so what is called left has no say. Reliability: the expected share of labels that
    are right.
    """
    import numpy as np

    if not data.items:
        return _of_nothing(data)
    classes, people = len(data.classes), len(data.annotators)
    cell = data.annotator * classes + data.label
    wrong = (1 - PRIOR_RIGHT) / max(1, classes - 1)
    prior = prior_labels * np.where(np.eye(classes, dtype=bool), PRIOR_RIGHT, wrong)

    def fit(posterior: "Array") -> tuple["Array", "Array"]:
        """Class shares (K) and error rates (annotator, true, said)."""
        shares = _mirrored(posterior.mean(axis=0), data.mirror)
        counts = np.zeros((people, classes, classes))
        for true in range(classes):
            counts[:, true] = _sums(cell, posterior[data.item, true], (people, classes))
        if data.mirror is not None:
            flip = list(data.mirror)
            counts = (counts + counts[:, flip][:, :, flip]) / 2
        return shares, _shares_of(counts + prior)

    def posterior_under(shares: "Array", rates: "Array") -> "Array":
        return _posterior(data, np.log(shares + _TINY), np.log(rates + _TINY))

    posterior, rounds = _until_still(
        label_shares(data), lambda before: posterior_under(*fit(before))
    )
    shares, rates = fit(posterior)
    accuracy = np.einsum("k,jkk->j", shares, rates)
    return _consensus(data, posterior, shares, accuracy, rounds)


def mace(data: Coded) -> Consensus:
    """Classes and annotators' competence by variational Bayes, as Hovy et al. (2013) have it.

    An annotator knows the class with a probability of his own, and else answers by a habit of his
    own. Priors as in the paper: Beta(0.5, 0.5) on knowing, Dirichlet(10) on habits. It starts from
    the shares of labels and not at random. Reliability: the probability of knowing.
    """
    import numpy as np
    from scipy.special import digamma

    if not data.items:
        return _of_nothing(data)
    classes, people = len(data.classes), len(data.annotators)
    cell = data.annotator * classes + data.label
    said = np.eye(classes, dtype=bool)[data.label]

    def expected_log(counts: "Array") -> "Array":
        return np.asarray(np.exp(digamma(counts) - digamma(counts.sum(axis=-1, keepdims=True))))

    def fit(posterior: "Array", knew: "Array") -> tuple["Array", "Array"]:
        """Counts behind knowing (annotator, no or yes) and habits (annotator, class)."""
        known = posterior[data.item, data.label] * knew
        guesses = _mirrored(_sums(cell, 1 - known, (people, classes)), data.mirror)
        knew_it = _sums(data.annotator, known, (people,))
        knows = np.stack([guesses.sum(axis=1), knew_it], axis=1)
        return knows + 0.5, guesses + 10.0

    def step(state: "Array") -> "Array":
        posterior, knew = _split(state, len(data.items), classes)
        knows, habits = (expected_log(counts) for counts in fit(posterior, knew))
        guess = knows[data.annotator, 0] * habits[data.annotator, data.label]
        know = knows[data.annotator, 1]
        likelihood = np.log(guess[:, None] + know[:, None] * said + _TINY)
        logs = [_sums(data.item, likelihood[:, k], (len(data.items),)) for k in range(classes)]
        return np.concatenate([_normalised(np.stack(logs, axis=1)).ravel(), know / (guess + know)])

    started = np.concatenate([label_shares(data).ravel(), np.full(len(data.item), 0.5)])
    state, rounds = _until_still(started, step)
    posterior, knew = _split(state, len(data.items), classes)
    knows, _ = fit(posterior, knew)
    competence = knows[:, 1] / knows.sum(axis=1)
    return _consensus(data, posterior, posterior.mean(axis=0), competence, rounds)


_TINY = 1e-300


def _until_still(state: "Array", step: Callable[["Array"], "Array"]) -> tuple["Array", int]:
    import numpy as np

    for done in range(1, MOST_ROUNDS + 1):
        state, before = step(state), state
        if not state.size or np.abs(state - before).max() < CONVERGED:
            return state, done
    return state, MOST_ROUNDS


def _posterior(data: Coded, log_shares: "Array", log_rates: "Array") -> "Array":
    """(I, K) from log shares (K) and log rates (annotator, true, said)."""
    import numpy as np

    logs = [
        _sums(data.item, log_rates[data.annotator, true, data.label], (len(data.items),)) + share
        for true, share in enumerate(log_shares)
    ]
    return _normalised(np.stack(logs, axis=1))


def _sums(cell: "Codes", weights: "Array", shape: tuple[int, ...]) -> "Array":
    """The weights summed by flat cell of an array of that shape."""
    import numpy as np

    sums = np.bincount(cell, weights, int(np.prod(shape)))
    return np.asarray(sums, dtype=np.float64).reshape(shape)


def _normalised(logs: "Array") -> "Array":
    import numpy as np

    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _shares_of(counts: "Array") -> "Array":
    """Counts over their sum along the last axis; of nothing, equal shares."""
    import numpy as np

    total = counts.sum(axis=-1, keepdims=True)
    equal = np.full_like(counts, 1 / max(1, counts.shape[-1]))
    return np.asarray(np.divide(counts, total, out=equal, where=total > 0), dtype=np.float64)


def label_shares(data: Coded) -> "Array":
    """(I, K): each label's share of the item's labels."""
    import numpy as np

    shape = (len(data.items), len(data.classes))
    each = np.ones(len(data.item))
    return _shares_of(_sums(data.item * shape[1] + data.label, each, shape))


def _mirrored(values: "Array", mirror: Sequence[int] | None) -> "Array":
    return values if mirror is None else (values + values[..., list(mirror)]) / 2


def _split(state: "Array", items: int, classes: int) -> tuple["Array", "Array"]:
    return state[: items * classes].reshape(items, classes), state[items * classes :]


def _consensus(
    data: Coded, posterior: "Array", marginals: "Array", reliability: "Array", rounds: int
) -> Consensus:
    return Consensus(
        data.items,
        data.classes,
        posterior,
        marginals,
        dict(zip(data.annotators, reliability.tolist(), strict=True)),
        rounds,
    )


def _of_nothing(data: Coded) -> Consensus:
    import numpy as np

    classes = len(data.classes)
    return Consensus((), data.classes, np.zeros((0, classes)), np.zeros(classes), {}, 0)
