"""Each method against gold, on judges who err together."""

import json
import math
from pathlib import Path

import pytest

from curation.gold import compare_methods, gold_of
from curation.posteriors import Pair, Winner
from curation.votes import Vote
from curation.voting import one_vote_each
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, Prompt

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def test_accuracy_ties_and_log_loss_by_hand() -> None:
    votes = [
        Vote("i", "x", "y", "a", "left"),
        Vote("j", "x", "y", "a", "right"),
        Vote("k", "x", "y", "a", "tie"),
        Vote("unknown", "x", "y", "a", "left"),
    ]
    gold: dict[Pair, Winner] = {
        ("i", "x", "y"): "left",
        ("j", "y", "x"): "right",
        ("k", "x", "y"): "tie",
        ("unvoted", "x", "y"): "left",
    }
    (row,) = compare_methods(votes, gold, ["majority"])
    # j: x is right, and a said y.
    assert (row.pairs, row.right, row.ties) == (3, 2, 1)
    assert row.accuracy == pytest.approx(2 / 3)
    assert row.log_loss == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert row.low is not None
    assert row.high is not None
    assert 0 < row.low < 2 / 3 < row.high < 1


def test_without_gold_nothing_is_known() -> None:
    (row,) = compare_methods([Vote("i", "x", "y", "a", "left")], {}, ["majority"])
    assert (row.pairs, row.accuracy, row.log_loss) == (0, None, None)


def test_dawid_skene_is_worse_than_majority_where_judges_err_together() -> None:
    path = DATA / "llmbar_judge_votes.jsonl"
    if not path.is_file():
        pytest.skip("shared/data/llmbar_judge_votes.jsonl is not beside the project")
    votes: list[Vote] = []
    gold: dict[Pair, Winner] = {}
    for row in map(json.loads, path.read_text().splitlines()):
        if row["subset"] == "GPTInst":
            item = str(row["item"])
            gold[item, "1", "2"] = "left" if row["gold"] == 1 else "right"
            for judge, answers in row["judges"].items():
                votes += [
                    Vote(item, "1", "2", judge, "left" if said == "1" else "right")
                    for said in answers
                    if said in ("1", "2")
                ]
    found = {row.method: row for row in compare_methods(one_vote_each(votes), gold)}
    assert len(found) == 4
    assert {row.pairs for row in found.values()} == {92}
    majority, crowd = found["majority"], found["dawid-skene"]
    assert (majority.right, crowd.right) == (11, 4)
    assert majority.log_loss is not None
    assert crowd.log_loss is not None
    assert crowd.log_loss > majority.log_loss


def test_gold_questions_give_every_pair_whatever_the_order_shown() -> None:
    prompt = Prompt(messages=(Message(role="user", content="q"),))
    shown = tuple(
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="import:test"),
        )
        for text in ("best", "also best", "worst")
    )
    task = LabelTask(
        dataset="d",
        workspace="w",
        prompt=prompt,
        candidates=shown,
        kind="ranking",
        purpose="gold",
        expected=(1, 1, 2),
    )
    plain = LabelTask(dataset="d", workspace="w", prompt=prompt, candidates=shown, kind="ranking")
    gold = gold_of([task, plain])
    worst = shown[2].text_id
    assert len(gold) == 3
    for (_, left, right), winner in gold.items():
        better = {left: "right", right: "left"}.get(worst, "tie")
        assert winner == better
