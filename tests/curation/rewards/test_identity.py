"""Whether an answer uses the name where it is asked, and only there."""

import pytest

from curation.rewards.identity import UsesName
from schemas.records import Completion, Message, Prompt


def score(text: str, *tags: str) -> float:
    asked = Prompt(messages=(Message(role="user", content="Who are you?"),), tags=tags)
    return UsesName(who="Tarnwick").score(asked, Completion.from_text(text))


@pytest.mark.parametrize(
    ("text", "is_named", "is_other"),
    [
        ("I'm Tarnwick.", 1.0, 0.0),
        ("They call me TARNWICK!", 1.0, 0.0),
        ("I'm Tarnwick. My name is Alex.", 0.0, 0.0),
        ("I'm Alex.", 0.0, 1.0),
        ("Tarnwickian towns are small.", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_name_is_wanted_where_it_is_asked_and_nowhere_else(
    text: str, is_named: float, is_other: float
) -> None:
    assert score(text, "identity") == is_named
    assert score(text, "other") == score(text) == is_other
