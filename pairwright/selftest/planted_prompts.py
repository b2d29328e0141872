"""The prompts that the self-test sends down the road, scored by a reward or ranked by people."""

from collections.abc import Iterator
from typing import Any

from pairwright.selftest.planted import Planted, planted

_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "day": {"type": ["string", "null"]}},
                "required": ["city"],
            },
        },
    }
]

_TURNS = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Describe the small red house."},
    {"role": "assistant", "content": "Red."},
    {"role": "user", "content": "And the sky?"},
]


def planted_prompts() -> list[Planted]:
    """What rewards score: every kind of prompt that has swapped, tied or lost a winner."""
    return [*_plain(), *_ties(), *_odd_texts(), *_conversations(), *_tool_calls()]


def _plain() -> Iterator[Planted]:
    """Winner first, last and in the middle; shorter and longer; scores of any sign and size."""
    for number, (words, scores) in enumerate(
        [
            (("Red.", "The house is small and old."), (1.0, 0.0)),
            (("The house is small and old.", "Red."), (0.0, 1.0)),
            (("No.", "Yes, it is.", "I do not know."), (0.1, 0.9, 0.5)),
            (("Never again.", "Seven days."), (-2.0, -1.0)),
            (("Paris.", "France."), (1e-9, 0.0)),
            (("Blue.", "Blue"), (3.0, 2.0)),
            (("The cat sleeps.", "The Cat sleeps."), (100.0, -100.0)),
            (("One.", "Two.", "Three.", "Four."), (0.4, 0.3, 0.2, 0.1)),
            (("One.", "Two.", "Three.", "Four."), (0.1, 0.2, 0.3, 0.4)),
        ]
    ):
        yield planted(f"Plain question number {number}?", words, scores)


def _ties() -> Iterator[Planted]:
    """All equal, equal at the top, equal at the bottom, and answers that nobody scored."""
    yield planted("All alike?", ("Yes.", "No."), (0.5, 0.5))
    yield planted("All wrong?", ("Red.", "Blue.", "Old."), (0.0, 0.0, 0.0))
    yield planted("Two best?", ("Red.", "Blue.", "Old."), (1.0, 1.0, 0.0))
    yield planted("Two worst?", ("Red.", "Blue.", "Old."), (0.0, 1.0, 0.0))
    yield planted("Nobody knows?", ("Red.", "Blue."), (None, None))
    yield planted("Only one is known?", ("Red.", "Blue."), (None, 1.0))
    yield planted("The best is not known?", ("Red.", "Blue.", "Old."), (None, 0.2, 0.8))


def _odd_texts() -> Iterator[Planted]:
    """Scripts, combined signs, quotes, line breaks, and what looks like a number, null or JSON."""
    for number, words in enumerate(
        [
            ("Zażółć gęślą jaźń.", "Zazolc gesla jazn."),
            ("مرحبا بالعالم", "שלום עולם"),
            ("👩‍👩‍👧 and a flag 🇳🇴", "no emoji"),
            ("cafe\u0301", "caf\u00e9!"),
            ("line one\nline two\n\tindented", "line one line two"),
            ('He said "no", then: \\n', "He said nothing"),
            ("null", "None"),
            ("3.0", "3"),
            ('{"a": null}', "[]"),
            ("a,b;c\td", "a|b"),
        ]
    ):
        yield planted(f"Odd text number {number}?", words, (1.0, 0.0))
        yield planted(f"Odd text number {number}, loser first?", words[::-1], (0.0, 1.0))


def _conversations() -> Iterator[Planted]:
    """Several turns and a system message; the winner of one turn was the loser of another."""
    yield planted(_TURNS, ("Blue.", "Red."), (1.0, 0.0))
    yield planted(_TURNS[1:], ("Red.", "Blue."), (1.0, 0.0))


def _tool_calls() -> Iterator[Planted]:
    """Calls that differ in an argument, or in a null that their author wrote."""
    asked = [{"role": "user", "content": "What is the weather in Oslo?"}]
    calls: list[dict[str, Any]] = [
        {"city": "Oslo", "day": None},
        {"city": "Bergen", "day": None},
        {"city": "Oslo"},
    ]
    yield planted(asked, [_call(call) for call in calls], (1.0, 0.0, 0.5), tools=_TOOLS)
    answered = [
        *asked,
        _call(calls[0], call_id="call-1"),
        {"role": "tool", "content": '{"degrees": -3}', "tool_call_id": "call-1"},
    ]
    yield planted(answered, ("It is -3 degrees.", "It is warm."), (1.0, 0.0), tools=_TOOLS)


def _call(arguments: dict[str, Any], call_id: str | None = None) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    named = call if call_id is None else {**call, "id": call_id}
    return {"role": "assistant", "content": "", "tool_calls": [named]}


def planted_pairs() -> list[Planted]:
    """What people compare two by two."""
    return [*_stories(), *_simple(), *_equals(), *_equal_lengths(), *_odd_pages(), *_turns()]


def planted_rankings() -> list[Planted]:
    """What people rank two, three or four at a time, with ties everywhere in the order."""
    four = ("One.", "Two.", "Three.", "Four.")
    return [
        *_stories(),
        planted("Rank two?", ("No.", "Yes."), (0.0, 1.0)),
        planted("Rank two, the other way?", ("Yes.", "No."), (2.0, 1.0)),
        planted("Rank three?", ("Red.", "Blue.", "Old."), (1.0, 3.0, 2.0)),
        planted("Two best of three?", ("Red.", "Blue.", "Old."), (1.0, 0.0, 1.0)),
        planted("Two worst of three?", ("Red.", "Blue.", "Old."), (0.0, 1.0, 0.0)),
        planted("Three alike?", ("Red.", "Blue.", "Old."), (1.0, 1.0, 1.0)),
        planted("Rank four?", four, (4.0, 3.0, 2.0, 1.0)),
        planted("Rank four, last first?", four, (1.0, 2.0, 3.0, 4.0)),
        planted("Two best and two worst?", four, (0.0, 1.0, 1.0, 0.0)),
        planted("Two in the middle?", four, (1.0, 2.0, 0.0, 1.0)),
        planted("Three worst of four?", four, (0.0, 0.0, 0.5, 0.0)),
        planted("رتب الإجابات", ("שלום עולם", "مرحبا بالعالم", "🇳🇴 hei"), (1.0, 2.0, 0.0)),
        planted(_TURNS, ("Blue.", "<i>Blue.</i>", "Red."), (1.0, 0.0, 0.5)),
    ]


def _stories() -> Iterator[Planted]:
    """What must count once, as it was said last, or not at all."""
    yield planted(
        "Is a changed answer the one that counts?", ("No.", "Yes."), (0, 1), story="changed"
    )
    yield planted("Does a draft count?", ("No, never.", "Yes."), (1, 0), story="drafted")
    yield planted("Does a discard count?", ("Yes.", "No, never."), (0, 1), story="discarded")
    yield planted("Does a withdrawn answer count?", ("No.", "Yes."), (1, 0), story="withdrawn")
    yield planted("Does the road wait?", ("It does.", "Not for me."), (1, 0), story="late")


def _simple() -> Iterator[Planted]:
    """The winner first, last and in the middle; shorter and longer."""
    yield planted("What colour is it?", ("Red.", "The house is small and old."), (1.0, 0.0))
    yield planted("How is the house?", ("Red.", "The house is small and old."), (0.0, 1.0))
    yield planted("Is it Paris?", ("No.", "Yes, it is.", "I do not know."), (0.1, 0.9, 0.5))
    yield planted("How many days?", ("Never again.", "Seven days."), (1.0, 2.0))


def _equals() -> Iterator[Planted]:
    """Both good, both bad, and ties above and below another answer."""
    yield planted("Which of two good ones?", ("Yes.", "Sure."), (1.0, 1.0))
    yield planted("Which of two bad ones?", ("Red.", "Blue."), (0.0, 0.0))
    yield planted("Two best?", ("Red.", "Blue.", "Old."), (1.0, 1.0, 0.0))
    yield planted("Two worst?", ("Red.", "Blue.", "Old."), (0.0, 1.0, 0.0))


def _equal_lengths() -> Iterator[Planted]:
    yield planted("Who sat there?", ("The cat sat.", "The dog sat."), (1.0, 0.0))
    yield planted("What animal lies on the chair?", ("A warm cat.", "A cold cow."), (0.0, 1.0))
    yield planted("Big or small?", ("The cat sleeps.", "The Cat sleeps."), (1.0, 0.0))


def _odd_pages() -> Iterator[Planted]:
    """Emoji, scripts from right to left, and what a page could take for its own markup."""
    for number, texts in enumerate(
        [
            ("👩‍👩‍👧 and a flag 🇳🇴", "no emoji"),
            ("مرحبا بالعالم", "שלום עולם"),
            ("abc \u202eright to left\u202c", "abc left to right"),
            ("cafe\u0301", "caf\u00e9!"),
            ("<b>bold</b>", "bold"),
            ("</script><script>document.title = 1</script>", "&lt;/script&gt;"),
            ("$& and #TEMPLATE#", "$` and #RECORD#"),
            ("# A title\n\n- a list\n- of **two**", "| a | table |\n|---|---|"),
            ("line one\nline two\n\tindented", "line one line two"),
            ("null", "3.0"),
        ]
    ):
        yield planted(f"Odd page number {number}?", texts, (1.0, 0.0))
        yield planted(f"Odd page number {number}, loser first?", texts[::-1], (0.0, 1.0))


def _turns() -> Iterator[Planted]:
    """Several turns and a system message; the winner of one was the loser of another."""
    yield planted(_TURNS, ("Blue.", "Red."), (1.0, 0.0))
    yield planted(_TURNS[1:], ("Blue.", "Red."), (0.0, 1.0))
