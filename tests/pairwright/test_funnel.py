"""The funnel: every line adds up across stages, or says that it does not."""

from typing import Any

import pytest

from pairwright.plan import UPSTREAM
from pairwright.report.funnel import Funnel, FunnelLine, Made, Seen, funnel
from schemas.run_folder import Manifest


def manifest(stage: str, counts: dict[str, int], **fields: Any) -> Manifest:
    return Manifest(
        schema_version=1,
        stage=stage,
        state=fields.pop("state", "complete"),
        fingerprint="f",
        config={},
        inputs={},
        packages={},
        counts=counts,
        **fields,
    )


def whole_road() -> dict[str, Manifest]:
    """10 rows, 8 prompts, 7 answered, 28 samples, 20 distinct, 5 pairs, 4 through the gate."""
    return {
        "prompts": manifest("prompts", {"read": 10, "prompts": 8}, reasons={"DUPLICATE_PROMPT": 2}),
        "generate": manifest(
            "generate",
            {"prompts": 7, "samples": 28, "candidates": 20},
            reasons={"PROMPT_TOO_LONG": 1},
        ),
        "rank": manifest("rank", {"candidates": 20, "judgements": 7}),
        "aggregate": manifest("aggregate", {"judgements": 7, "rankings": 7}),
        "pair": manifest(
            "pair",
            {
                "prompts": 7,
                "unpaired_prompts": 2,
                "candidates": 20,
                "used_candidates": 10,
                "unused_candidates": 10,
                "proposals": 5,
            },
            reasons={"TIE": 2},
            facts={"unused": {"TIE": 6, "NOT_CHOSEN": 4}},
        ),
        "validate": manifest(
            "validate",
            {"in": 5, "out": 4, "quarantined": 1, "train": 3, "test": 1},
            reasons={"EMPTY": 1},
        ),
        "export": manifest("export", {"in": 4, "train": 3, "test": 1}),
        "dpo": manifest("dpo", {"steps": 2}),
        "evaluate": manifest("evaluate", {"prompts": 6, "quarantined": 0}),
    }


def lines_of(found: Funnel, stage: str) -> list[tuple[str, int, int, dict[str, int]]]:
    return [
        (line.unit, line.came_in, line.passed, line.left)
        for line in found.lines
        if isinstance(line, FunnelLine) and line.stage == stage
    ]


def test_each_line_is_what_came_in_what_passed_and_why_the_rest_left() -> None:
    found = funnel(whole_road(), Seen(trained_pairs=3))
    assert lines_of(found, "prompts") == [("rows", 10, 8, {"DUPLICATE_PROMPT": 2})]
    assert lines_of(found, "generate") == [
        ("prompts", 8, 7, {"PROMPT_TOO_LONG": 1}),
        ("samples", 28, 20, {"IDENTICAL_ANSWER": 8}),
    ]
    assert lines_of(found, "pair") == [
        ("prompts", 7, 5, {"TIE": 2}),
        ("candidates", 20, 10, {"TIE": 6, "NOT_CHOSEN": 4}),
    ]
    assert lines_of(found, "validate") == [("pairs", 5, 4, {"EMPTY": 1})]
    assert lines_of(found, "dpo") == [("pairs", 3, 3, {})]
    assert lines_of(found, "evaluate") == [("held-out prompts", 6, 6, {})]
    assert found.adds_up
    made = [line.made for line in found.lines if isinstance(line, Made)]
    assert made == [
        "28 samples",
        "7 judgements",
        "7 rankings",
        "5 pairs",
        "3 to train on, 1 held out",
        "1 rows in test, 3 rows in train",
    ]


def test_totals_are_those_of_the_stages() -> None:
    found = funnel(whole_road(), Seen(trained_pairs=3))
    assert (found.prompts, found.samples, found.candidates) == (8, 28, 20)
    assert (found.proposals, found.pairs, found.quarantined) == (5, 4, 1)
    assert (found.train, found.test) == (3, 1)


def test_row_that_left_without_a_reason_does_not_add_up() -> None:
    road = whole_road()
    road["validate"] = road["validate"].model_copy(update={"reasons": {}})
    assert not funnel(road, Seen(trained_pairs=3)).adds_up


def test_row_lost_between_two_stages_does_not_add_up() -> None:
    road = whole_road()
    road["prompts"] = manifest("prompts", {"read": 11, "prompts": 9}, reasons={"X": 2})
    assert not funnel(road, Seen(trained_pairs=3)).adds_up


def test_pair_that_no_step_trained_on_is_told() -> None:
    found = funnel(whole_road(), Seen(trained_pairs=2))
    assert lines_of(found, "dpo") == [("pairs", 3, 2, {"NOT_TRAINED_ON": 1})]


def test_unfinished_stage_counts_nothing() -> None:
    road = whole_road()
    road["generate"] = manifest("generate", {"prompts": 3}, state="running")
    found = funnel(road, Seen())
    assert found.candidates is None
    assert lines_of(found, "generate") == []
    assert lines_of(found, "dpo") == []


def test_no_stage_is_an_empty_funnel_that_adds_up() -> None:
    found = funnel({}, Seen())
    assert found.lines == ()
    assert found.adds_up


def labelled_road(**facts: Any) -> dict[str, Manifest]:
    """7 prompts with answers to 6, of which 5 are ranked; 20 answers and 2 on gold, 18 counted."""
    road = whole_road()
    names = [{"annotator": name} for name in ("ann", "simulated-ben")]
    road["label"] = manifest(
        "label",
        {"tasks": 9, "judgements": 20, "gold_judgements": 2, "annotators": 2},
        facts={"annotators": names, "simulated": ["simulated-ben"], **facts},
    )
    road["aggregate"] = manifest(
        "aggregate",
        {"judgements": 22, "counted": 18, "rankings": 5, "unranked": 1},
        reasons={"INCONCLUSIVE": 1},
        facts={"not_counted": {"SUPERSEDED": 3, "EXCLUDED": 1}},
    )
    return {name: road[name] for name in UPSTREAM if name in road}


def test_answers_count_or_leave_with_their_reason() -> None:
    found = funnel(labelled_road(), Seen(trained_pairs=3, answered_prompts=6))
    assert lines_of(found, "label") == [("prompts", 7, 6, {"NOBODY_ANSWERED": 1})]
    assert lines_of(found, "aggregate") == [
        ("judgements (some simulated)", 22, 18, {"SUPERSEDED": 3, "EXCLUDED": 1}),
        ("prompts", 6, 5, {"INCONCLUSIVE": 1}),
    ]
    assert found.adds_up


def test_answer_lost_between_label_and_aggregate_does_not_add_up() -> None:
    road = labelled_road()
    counts = {**road["label"].counts, "judgements": 21}
    road["label"] = road["label"].model_copy(update={"counts": counts})
    assert not funnel(road, Seen(trained_pairs=3, answered_prompts=6)).adds_up


def test_answered_prompt_without_a_ranking_or_a_reason_does_not_add_up() -> None:
    assert not funnel(labelled_road(), Seen(trained_pairs=3, answered_prompts=7)).adds_up


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["ann"], "judgements"),
        (["simulated-ben"], "simulated judgements"),
        (["ann", "simulated-ben"], "judgements (some simulated)"),
    ],
)
def test_what_scripts_said_is_called_simulated(names: list[str], word: str) -> None:
    road = labelled_road(annotators=[{"annotator": name} for name in names], simulated=[])
    made = [line.made for line in funnel(road, Seen()).lines if isinstance(line, Made)]
    assert f"20 {word} and 2 on gold questions" in made


def test_rankings_by_scores_come_from_rank_although_people_were_asked() -> None:
    road = labelled_road()
    road["aggregate"] = whole_road()["aggregate"]
    found = funnel(road, Seen(trained_pairs=3, answered_prompts=6))
    assert lines_of(found, "aggregate") == []
    assert found.adds_up


def test_rollouts_and_the_prompts_they_answer_are_accounted_for() -> None:
    stages = {
        "prompts": manifest("prompts", {"read": 10, "prompts": 8}, reasons={"DUPLICATE_PROMPT": 2}),
        "grpo": manifest(
            "grpo",
            {"prompts": 7, "rollouts": 64, "abstained": 3, "tokens": 4000},
            reasons={"PROMPT_TOO_LONG": 1},
        ),
    }
    found = funnel(stages, Seen(sampled_prompts=5))
    assert found.adds_up
    assert (found.rollouts, found.pairs) == (64, None)
    asked, made, judged = found.lines[1:]
    assert isinstance(asked, FunnelLine)
    assert isinstance(judged, FunnelLine)
    assert (asked.came_in, asked.passed) == (8, 5)
    assert asked.left == {"PROMPT_TOO_LONG": 1, "NOT_SAMPLED": 2}
    assert made == Made(stage="grpo", given="5 prompts", made="64 rollouts of 4,000 tokens")
    assert (judged.came_in, judged.passed, judged.left) == (64, 61, {"NOT_JUDGED": 3})


def test_conversations_and_pairs_of_a_reward_model_are_accounted_for() -> None:
    rows = {"read": 12, "trained": 8, "held_out": 2, "quarantined": 2}
    stages = {
        "sft": manifest("sft", {}, facts={"rows": rows, "reasons": {"NO_ASSISTANT_TURN": 2}}),
        **whole_road(),
        "reward": manifest("reward", {}, facts={"pairs": 2, "too_long_pairs": 1}),
    }
    found = funnel(stages, Seen(trained_pairs=3))
    assert found.adds_up
    lines = {line.stage: line for line in found.lines if isinstance(line, FunnelLine)}
    assert (lines["sft"].came_in, lines["sft"].passed) == (12, 10)
    assert lines["reward"].left == {"TOO_LONG": 1}
