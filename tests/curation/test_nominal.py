import json
from pathlib import Path

import pytest

from curation.nominal import LABEL_METHODS, LabelMethod, aggregate_labels

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def test_repeats_count_in_the_figures_of_dawid_and_skene_1979() -> None:
    path = DATA / "dawid_skene_1979.jsonl"
    if not path.is_file():
        pytest.skip("shared/data/dawid_skene_1979.jsonl is not beside the project")
    labels = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for name, given in row.items():
            if name != "patient":
                grades = given if isinstance(given, list) else [given]
                labels += [(str(row["patient"]), name, str(grade)) for grade in grades]
    found = aggregate_labels(labels)
    assert [round(value, 3) for value in found.marginals.values()] == [0.4, 0.422, 0.112, 0.067]
    assert {item.votes for item in found.items} == {7}
    assert len(found.items) == 45
    once = aggregate_labels(sorted(set(labels)))
    assert once.marginals != found.marginals


@pytest.mark.parametrize("method", LABEL_METHODS)
def test_equal_votes_are_no_label(method: LabelMethod) -> None:
    found = aggregate_labels([("i", "a", "yes"), ("i", "b", "no")], method)
    (item,) = found.items
    assert item.label is None
    assert item.probabilities == pytest.approx({"yes": 0.5, "no": 0.5})


def test_the_majority_has_one_vote_more_for_each_label() -> None:
    found = aggregate_labels([("i", "a", "yes"), ("i", "b", "yes"), ("j", "a", "no")], "majority")
    assert found.items[0].probabilities == {"no": 0.25, "yes": 0.75}
    assert [item.label for item in found.items] == ["yes", "no"]
    assert found.reliability == pytest.approx({"a": (0.75 + 2 / 3) / 2, "b": 0.75})


def test_no_labels_are_no_items_and_an_unknown_method_is_refused() -> None:
    assert aggregate_labels([]).items == []
    assert aggregate_labels([], "majority").items == []
    with pytest.raises(ValueError, match="method 'glad' is unknown for labels; expected one of"):
        aggregate_labels([], "glad")  # type: ignore[arg-type]
