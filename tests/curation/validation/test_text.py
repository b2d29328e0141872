"""What a reader could not read, or a file could not hold, is no preference."""

import pytest

from curation.validation.gate import (
    Gate,
    GateResult,
    Quarantined,
    RawRow,
)
from schemas.arrow import from_table, to_table
from schemas.configs import ValidateConfig


def run(prompt: str, chosen: str, rejected: str) -> GateResult:
    row = RawRow(
        row_id="line 1",
        prompt=[{"role": "user", "content": prompt}],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
    )
    return Gate(ValidateConfig(token_checks=False), seed=0).run([row])


@pytest.mark.parametrize("empty", ["", "   ", "\n\t", "\u200b", " \ufeff\u200d\u2060 ", "\u3164"])
@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_side_with_nothing_to_see_is_empty(side: str, empty: str) -> None:
    sides = {"chosen": "good", "rejected": "bad", side: empty}
    result = run("q", **sides)
    assert result.reasons == {"EMPTY_COMPLETION": 1}
    assert result.quarantined[0].row_id == "line 1"
    assert side in result.quarantined[0].message


def test_a_side_without_messages_is_empty() -> None:
    asked = [{"role": "user", "content": "q"}]
    row = RawRow("line 1", asked, [], [{"role": "assistant", "content": "x"}])
    result = Gate(ValidateConfig(token_checks=False), seed=0).run([row])
    assert result.reasons == {"EMPTY_COMPLETION": 1}


def test_one_visible_sign_is_an_answer() -> None:
    assert run("q", "7", "👍").counts["out"] == 1


@pytest.mark.parametrize("rejected", ["yes", "yes ", "\n yes", "yes\u200b", "\ufeffyes"])
def test_sides_that_differ_in_what_is_unseen_around_them_are_identical(rejected: str) -> None:
    assert run("q", "yes", rejected).reasons == {"IDENTICAL_SIDES": 1}


@pytest.mark.parametrize(("one", "other"), [("caf\u00e9", "cafe\u0301"), ("a\r\nb", "a\nb")])
def test_sides_that_only_bytes_tell_apart_are_identical(one: str, other: str) -> None:
    assert run("q", one, other).reasons == {"IDENTICAL_SIDES": 1}


def test_sides_that_differ_in_case_are_two_answers() -> None:
    assert run("q", "yes", "Yes").counts["out"] == 1


@pytest.mark.parametrize(
    "texts", [("\ud83c", "a", "b"), ("q", "a\ud83c", "b"), ("q", "a", "\udf78b")]
)
def test_half_a_character_is_bad_unicode_and_can_be_written_to_quarantine(
    texts: tuple[str, str, str],
) -> None:
    result = run(*texts)
    assert result.reasons == {"BAD_UNICODE": 1}
    assert from_table(to_table(result.quarantined, Quarantined), Quarantined) == result.quarantined


def test_a_whole_character_of_two_halves_passes() -> None:
    assert run("q", "\U0001f378", "water").counts["out"] == 1


@pytest.mark.parametrize("empty", ["", " ", "\u200b", "\ufe0f"])
def test_a_prompt_with_nothing_to_see_asks_nothing(empty: str) -> None:
    result = run(empty, "a", "b")
    assert result.reasons == {"EMPTY_PROMPT": 1}
    assert "message 0 (user) is empty" in result.quarantined[0].message


@pytest.mark.parametrize(
    "marker", ["<|im_start|>user", "[INST] hi [/INST]", "<start_of_turn>model"]
)
def test_markers_of_any_chat_template_are_a_warning_without_the_models_own(marker: str) -> None:
    result = run(f"{marker}\nhi", "a", "b")
    assert result.counts["out"] == 1
    (warning,) = [text for text in result.warnings if text.startswith("ALREADY_RENDERED")]
    assert "'line 1' first" in warning
    assert not any("ALREADY_RENDERED" in text for text in run("[INST", "a", "b").warnings)
