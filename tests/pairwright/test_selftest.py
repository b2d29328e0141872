import json
from collections.abc import Iterator

import pytest

from pairwright.progress import Silent
from pairwright.selftest.laws import Law, as_far_as_it_goes, summed
from pairwright.selftest.planted import Opinions, answer
from pairwright.selftest.planted_prompts import planted_pairs, planted_prompts, planted_rankings


def test_every_law_holds_on_both_roads(pairwright) -> None:  # type: ignore[no-untyped-def]
    tested = pairwright("selftest", "--json")

    laws = json.loads(tested.out)
    assert [law["law"] for law in laws if not law["holds"]] == []
    assert len(laws) == 39
    assert tested.code == 0


def test_without_the_server_the_selftest_says_why(  # type: ignore[no-untyped-def]
    pairwright, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    tested = pairwright("selftest", "--json")

    assert tested.code == 3
    assert "the Argilla server could not be set up" in json.loads(tested.out)["error"]


def test_a_stage_that_refuses_what_it_is_given_breaks_a_law() -> None:
    def laws() -> Iterator[Law]:
        yield Law("two and two are four", 1, 1)
        raise ValueError("no more of this")

    *before, last = as_far_as_it_goes(laws(), Silent())

    assert [law.holds for law in before] == [True]
    assert (last.held, last.seen) == (0, 1)


def test_a_law_that_never_applied_does_not_hold() -> None:
    once, never = summed([Law("once", 1, 1), Law("never", 0, 0), Law("once", 2, 2)])

    assert once == Law("once", 3, 3)
    assert once.holds
    assert not never.holds


def test_a_planted_text_is_found_by_its_words_and_conversation() -> None:
    opinions = Opinions(planted_pairs())
    asked = [{"role": "user", "content": "What colour is it?"}]

    long = answer("The house is small and old.")
    assert opinions.prefers(asked, answer("Red."), long)
    assert not opinions.prefers(asked, long, answer("Red."))
    assert opinions.score(asked, answer("Blue.")) is None


def test_planted_prompts_cover_ties_tools_turns_and_scripts() -> None:
    planted = planted_prompts()

    assert any(not item.has_pair for item in planted)
    assert any(item.prompt.tools for item in planted)
    assert any(len(item.prompt.messages) > 2 for item in planted)
    assert any(None in item.scores for item in planted)
    texts = [one.completion.text for item in planted for one in item.candidates]
    assert any(not text.isascii() for text in texts)
    first_wins = sum(item.candidates[0].text_id in item.winners for item in planted)
    assert 0.3 < first_wins / len(planted) < 0.7


def test_people_are_asked_about_every_kind_of_pair() -> None:
    pairs = planted_pairs()
    texts = [[one.completion.text for one in item.candidates] for item in pairs]

    assert {item.scores for item in pairs} >= {(1.0, 1.0), (0.0, 0.0)}
    assert any(item.prompt.messages[0].role == "system" for item in pairs)
    assert any("🇳🇴" in text for two in texts for text in two)
    assert any("مرحبا" in text for two in texts for text in two)
    assert any("<script>" in text for two in texts for text in two)
    assert any(
        len(set(map(len, two))) == 1 and item.has_pair
        for item, two in zip(pairs, texts, strict=True)
    )
    first_wins = sum(item.candidates[0].text_id in item.winners for item in pairs)
    assert 0.3 < first_wins / len(pairs) < 0.7


def test_people_rank_three_and_four_answers_with_ties_anywhere() -> None:
    ranks = {tuple(item.ranks.values()) for item in planted_rankings()}

    assert ranks >= {(1, 2, 1), (2, 1, 2), (1, 1, 1), (2, 1, 1, 2), (2, 1, 3, 2), (2, 2, 1, 2)}
