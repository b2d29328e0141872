import pytest

from curation.rewards.text import sentences, words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No full stop", 1),
        ("One. Two! Three?", 3),
        ("really?! Yes.", 2),
        ('He said "Go." Then he went.', 2),
        ("Dr. Smith met J. R. Tolkien at 5 p.m. in the U.S. with Mr. Lee.", 1),
        ("Bring pens, paper, etc. Then sit.", 2),
        ("bring pens etc. and sit.", 1),
        ("It costs 3.50 at example.com today.", 1),
        ("Well... maybe.", 1),
        ("Well... Maybe.", 2),
        ("A title\n\nA sentence.", 2),
        ("Buy:\n- eggs\n- milk", 3),
        ("1. Eggs are good.\n2. Milk is good.", 2),
        ("all in lower case. a second one.", 2),
        ("It is I. You are you.", 2),
        ("我喜欢猫。你呢？", 2),
        ("broken over\ntwo lines.", 1),
    ],
)
def test_sentences_are_counted_as_a_reader_counts_them(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_sentences_keep_every_word_in_its_order() -> None:
    text = 'First one. "Second," she said! Third\n\n- fourth\n- fifth etc. end'
    assert words(" ".join(sentences(text))) == words(text)


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words("Don't count: 3 well-known cafés.") == [
        "Don", "t", "count", "3", "well", "known", "cafés",
    ]  # fmt: skip
