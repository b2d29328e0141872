"""What a person answered is never lost and never counted twice."""

import pyarrow.parquet as pq
import pytest

from schemas.annotations import AnnotationStore
from schemas.arrow import to_table
from schemas.records import Annotator, Judgement


def judgement(name: str, **changes) -> Judgement:
    fields = {"prompt_id": "p", "candidates": ("a", "b"), "ranks": (1, 2)}
    return Judgement(annotator=Annotator(kind="human", name=name), **{**fields, **changes})


def test_a_second_pull_adds_nothing_twice(tmp_path):
    store = AnnotationStore(tmp_path / "annotations")
    assert store.append([judgement("ann"), judgement("bob")]) == 2
    assert store.append([judgement("bob"), judgement("cem")]) == 1
    assert [item.annotator.name for item in store.read()] == ["ann", "bob", "cem"]


def test_a_change_of_mind_keeps_the_first_answer(tmp_path):
    store = AnnotationStore(tmp_path)
    store.append([judgement("ann")])
    store.append([judgement("ann", ranks=(2, 1), revision=1)])
    assert [item.ranks for item in store.read()] == [(1, 2), (2, 1)]


def test_the_digest_changes_only_when_something_was_added(tmp_path):
    store = AnnotationStore(tmp_path)
    store.append([judgement("ann")])
    before = store.digest()
    store.append([judgement("ann")])
    assert store.digest() == before
    store.append([judgement("bob")])
    assert store.digest() != before


def test_a_batch_that_was_tampered_with_is_refused(tmp_path):
    store = AnnotationStore(tmp_path)
    store.append([judgement("ann")])
    (batch,) = tmp_path.glob("batch-*.parquet")
    pq.write_table(to_table([judgement("eve")], Judgement), batch)
    with pytest.raises(ValueError, match="was changed after it was written"):
        list(store.read())
