"""How well languages are told apart, on real questions whose language is known."""

import json
from collections import Counter
from pathlib import Path

import pytest

from curation.languages import PLAUSIBLE, identifier, known_languages, language_of

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not at {DATA}")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wir treffen uns morgen um acht am Bahnhof.", "de"),
        ("Nos vemos mañana a las ocho en la estación.", "es"),
        ("Nous nous retrouvons demain à huit heures à la gare.", "fr"),
        ("Ci vediamo domani alle otto alla stazione.", "it"),
        ("Encontramo-nos amanhã às oito na estação.", "pt"),
        ("We meet at the station at eight tomorrow.", "en"),
        ("我们明天八点在车站见面。", "zh"),
        ("明日の八時に駅で会いましょう。", "ja"),
    ],
)
def test_a_sentence_is_told_by_its_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "42 + 1 = 43, 7, 8", "Buenos Aires", "Das ist ja gut"])
def test_under_five_words_no_language_is_told(text: str) -> None:
    assert language_of(text) is None


def test_a_language_out_of_the_choice_is_never_told() -> None:
    assert language_of("Wir treffen uns morgen um acht am Bahnhof.", ("en", "nl")) == "nl"


def test_every_plausible_language_is_known() -> None:
    assert set(PLAUSIBLE) <= known_languages()
    assert "pcm" not in known_languages()


@real_data
def test_real_questions_are_told_whole_and_by_their_first_five_words() -> None:
    rows = [json.loads(line) for line in (DATA / "mgsm.jsonl").read_text().splitlines()]
    whole, start = Counter[str](), Counter[str]()
    for row in rows:
        language, question = row["lang"], row["question"]
        first = question[:5] if language == "zh" else " ".join(question.split()[:5])
        whole[language] += language_of(question) == language
        start[language] += identifier(PLAUSIBLE).classify(first)[0] == language
    assert set(whole.values()) == {250}, whole
    assert min(start.values()) >= 0.94 * 250, start
    assert start.total() >= 0.97 * 1250, start
