"""Dawid-Skene and MACE against published figures and against crowd-kit, run around its faults."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import MACE, DawidSkene

from curation.crowd import LabelRow, coded, dawid_skene, mace

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MIRROR = {"left": "right", "right": "left", "tie": "tie"}


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"shared/data/{name} is not beside the project")
    return [json.loads(line) for line in path.read_text().splitlines()]


def anaesthetists() -> list[LabelRow]:
    labels: list[LabelRow] = []
    for row in rows("dawid_skene_1979.jsonl"):
        for observer in range(1, 6):
            given = row[f"observer_{observer}"]
            # Observer 1 judged three times.
            for grade in given if isinstance(given, list) else [given]:
                labels.append((f"{row['patient']:02}", str(observer), str(grade)))
    return labels


def ukp() -> tuple[list[LabelRow], dict[str, str]]:
    side = {"a1": "left", "a2": "right", "equal": "tie"}
    labels, published = [], {}
    for number, row in enumerate(rows("ukpconvarg1_votes.jsonl")):
        labels += [(f"{number:05}", who, side[said]) for who, said in row["votes"]]
        if row["mace_gold"]:
            published[f"{number:05}"] = side[row["mace_gold"]]
    return labels, published


def frame(labels: list[LabelRow]) -> pd.DataFrame:
    return pd.DataFrame(labels, columns=["task", "worker", "label"])


def test_the_marginals_of_dawid_and_skene_1979() -> None:
    found = dawid_skene(coded(anaesthetists()))
    assert found.classes == ("1", "2", "3", "4")
    assert found.marginals == pytest.approx([0.400, 0.422, 0.112, 0.067], abs=5e-4)


def test_dawid_skene_is_that_of_crowd_kit_once_it_does_not_stop_early() -> None:
    labels = anaesthetists()
    # Its own rule stops it after 4 rounds, at a third marginal of 0.1112.
    theirs = DawidSkene(n_iter=300, tol=-np.inf).fit(frame(labels)).probas_
    assert theirs is not None
    found = dawid_skene(coded(labels))
    expected = theirs.sort_index()[list(found.classes)].to_numpy()
    assert np.abs(found.posterior - expected).max() < 1e-4


def test_mace_is_that_of_crowd_kit_once_its_rows_and_labels_are_in_order() -> None:
    labels, published = ukp()
    # crowd-kit numbers annotators and labels as they come but sums them up sorted, so unsorted
    # input gives annotators each other's habits.
    sorted_frame = frame(sorted(labels, key=lambda row: (row[1], row[2], row[0])))
    code = {name: str(at) for at, name in enumerate(sorted_frame.label.unique())}
    sorted_frame["label"] = sorted_frame.label.map(code)
    theirs = MACE(n_restarts=1, n_iter=300).fit(sorted_frame).probas_
    assert theirs is not None
    found = mace(coded(labels))
    expected = theirs.sort_index()[[code[name] for name in found.classes]].to_numpy()
    same = found.posterior.argmax(axis=1) == expected.argmax(axis=1)
    assert same.mean() > 0.995
    assert np.median(np.abs(found.posterior - expected)) < 1e-3
    # The published labels come from MACE over all 16 debates, of which these are 8 files.
    verdicts = dict(zip(found.items, found.posterior.argmax(axis=1), strict=True))
    agree = [found.classes[verdicts[item]] == label for item, label in published.items()]
    assert np.mean(agree) > 0.9


def made_up(seed: int, *, per_item: int = 3, items: int = 400) -> tuple[list[LabelRow], list[str]]:
    rng = random.Random(seed)
    accuracy = [0.75, 0.8, 0.85, 0.89, None]
    labels: list[LabelRow] = []
    truth = [rng.choice(["left", "right", "tie"]) for _ in range(items)]
    for item, true in enumerate(truth):
        for who in rng.sample(range(5), per_item):
            right = accuracy[who]
            if right is None:
                said = rng.choice(["left", "right"])
            else:
                others = [name for name in MIRROR if name != true]
                said = true if rng.random() < right else rng.choice(others)
            labels.append((f"{item:04}", f"a{who}", said))
    return labels, truth


@pytest.mark.parametrize("seed", range(3))
def test_reliability_is_what_annotators_were_made_with(seed: int) -> None:
    labels, _ = made_up(seed, per_item=5, items=1500)
    found = dawid_skene(coded(labels, MIRROR), prior_labels=2)
    assert [found.reliability[f"a{who}"] for who in range(4)] == pytest.approx(
        [0.75, 0.8, 0.85, 0.89], abs=0.04
    )
    # Who guesses is right on a third of the ties' complement: 0.5 on two of three classes.
    assert found.reliability["a4"] == pytest.approx(1 / 3, abs=0.05)
    competence = mace(coded(labels, MIRROR)).reliability
    assert min(competence, key=competence.__getitem__) == "a4"


@pytest.mark.parametrize("fit", [dawid_skene, mace])
def test_the_order_of_the_rows_has_no_say(fit: Any) -> None:
    labels, _ = made_up(0)
    again = labels[:]
    random.Random(1).shuffle(again)
    assert np.array_equal(fit(coded(labels)).posterior, fit(coded(again)).posterior)


@pytest.mark.parametrize("fit", [dawid_skene, mace])
def test_what_is_called_left_has_no_say_where_classes_mirror(fit: Any) -> None:
    labels, _ = made_up(2)
    turned = {f"{item:04}" for item in range(0, 400, 3)}
    swapped = [(item, who, MIRROR[said] if item in turned else said) for item, who, said in labels]
    first, second = fit(coded(labels, MIRROR)), fit(coded(swapped, MIRROR))
    flip = [first.classes.index(MIRROR[name]) for name in first.classes]
    for item, plain, other in zip(first.items, first.posterior, second.posterior, strict=True):
        assert plain == pytest.approx(other[flip] if item in turned else other, abs=1e-3)


@pytest.mark.parametrize("fit", [dawid_skene, mace])
def test_thousands_of_labels_an_item_do_not_underflow(fit: Any) -> None:
    rng = random.Random(0)
    labels = [
        (item, f"a{number % 50}", "left" if rng.random() < 0.6 else "right")
        for item in ("x", "y")
        for number in range(4000)
    ]
    posterior = fit(coded(labels, MIRROR)).posterior
    assert np.isfinite(posterior).all()
    assert posterior.sum(axis=1) == pytest.approx([1, 1])


def test_one_label_of_one_annotator_is_not_certainty() -> None:
    labels: list[LabelRow] = [(str(item), "a", "left") for item in range(3)]
    certain = dawid_skene(coded(labels, MIRROR))
    assert certain.posterior[:, 0] == pytest.approx([1, 1, 1])
    doubtful = dawid_skene(coded(labels, MIRROR), prior_labels=2)
    assert (doubtful.posterior[:, 0] < 0.95).all()


@pytest.mark.parametrize("fit", [dawid_skene, mace])
def test_no_labels_give_no_items(fit: Any) -> None:
    assert fit(coded([], MIRROR)).items == ()
    assert fit(coded([])).posterior.shape[0] == 0
