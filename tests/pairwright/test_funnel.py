"""The funnel: every line adds up across stages, or says that it does not."""

from typing import Any

from pairwright.funnel import Funnel, FunnelLine, Made, funnel
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
    found = funnel(whole_road(), trained_pairs=3)
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
    found = funnel(whole_road(), trained_pairs=3)
    assert (found.prompts, found.samples, found.candidates) == (8, 28, 20)
    assert (found.proposals, found.pairs, found.quarantined) == (5, 4, 1)
    assert (found.train, found.test) == (3, 1)


def test_row_that_left_without_a_reason_does_not_add_up() -> None:
    road = whole_road()
    road["validate"] = road["validate"].model_copy(update={"reasons": {}})
    assert not funnel(road, trained_pairs=3).adds_up


def test_row_lost_between_two_stages_does_not_add_up() -> None:
    road = whole_road()
    road["prompts"] = manifest("prompts", {"read": 11, "prompts": 9}, reasons={"X": 2})
    assert not funnel(road, trained_pairs=3).adds_up


def test_pair_that_no_step_trained_on_is_told() -> None:
    found = funnel(whole_road(), trained_pairs=2)
    assert lines_of(found, "dpo") == [("pairs", 3, 2, {"NOT_TRAINED_ON": 1})]


def test_unfinished_stage_counts_nothing() -> None:
    road = whole_road()
    road["generate"] = manifest("generate", {"prompts": 3}, state="running")
    found = funnel(road, trained_pairs=None)
    assert found.candidates is None
    assert lines_of(found, "generate") == []
    assert lines_of(found, "dpo") == []


def test_no_stage_is_an_empty_funnel_that_adds_up() -> None:
    found = funnel({}, trained_pairs=None)
    assert found.lines == ()
    assert found.adds_up
