"""Instructions that a program can check, as IFEval has them (Zhou et al. 2023, arXiv 2311.07911).

Names and arguments are IFEval's, with or without its language prefix (`en:punctuation:no_comma`).
The verdicts are those of IFEval's strict mode, with these departures:

- keywords and section markers are texts, not regular expressions;
- sentences are split by `curation.rewards.text`, and languages told apart by py3langid, because
  IFEval's own means (nltk's punkt, langdetect) need a download or are not repeatable;
- a text in capitals or lower case counts as English unless another language is more likely than
  not, for IFEval's detector does not know the language of a few words either;
- a letter to count may be any character, and blank paragraphs never count;
- relations may also be `at most`, `more than` and `exactly`.

An empty answer follows nothing, not even "no comma".
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError, validate_call

from curation.languages import identifier, known_languages
from curation.rewards.rules import Rule, is_json
from curation.rewards.text import sentences, words
from schemas.arrow import first_error
from schemas.config_files import unknown_key
from schemas.records import Completion, Prompt


class Verdict(NamedTuple):
    instruction: str
    """The name without a language prefix."""
    followed: bool


class VerifiableInstructions(Rule):
    """The share of the prompt's instructions that the answer follows, from 0 to 1.

    A prompt without instructions abstains.

    Raises:
        ValueError: the prompt names an instruction that is not known, or with wrong arguments.
    """

    name: str = "instructions"
    all_or_nothing: bool = False
    """1 only where every instruction is followed, else 0."""

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        if not prompt.instructions:
            return None
        followed = [verdict.followed for verdict in verdicts(prompt, completion.said)]
        return float(all(followed)) if self.all_or_nothing else sum(followed) / len(followed)

    def judges(self, prompt: Prompt) -> bool:
        return bool(prompt.instructions)

    def check(self, prompt: Prompt) -> None:
        verdicts(prompt, "Any answer.")


def verdicts(prompt: Prompt, text: str) -> list[Verdict]:
    """Which of the prompt's instructions the answer follows, in their order.

    Raises:
        ValueError: an instruction is not known, or its arguments are wrong.
    """
    found = []
    for instruction in prompt.instructions:
        name = instruction.name.removeprefix("en:")
        try:
            followed = _follows(name, instruction.kwargs, text)
        except ValueError as error:
            raise ValueError(f"prompt '{prompt.id}': {error}") from None
        found.append(Verdict(name, followed))
    return found


def _follows(name: str, kwargs: Any, text: str) -> bool:
    if name not in CHECKS:
        message = unknown_key(name, CHECKS).replace("unknown key", "unknown instruction", 1)
        raise ValueError(message.replace("known keys:", "known instructions:", 1))
    if not isinstance(kwargs, dict):
        raise ValueError(f"instruction '{name}': kwargs is {kwargs!r}; expected a mapping")
    # IFEval's own rows give every instruction all arguments there are, most of them null.
    given = {key: value for key, value in kwargs.items() if value is not None}
    try:
        return CHECKS[name](text, **given) and bool(text.strip())
    except ValueError as error:
        detail = first_error(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"instruction '{name}': {detail}") from None


Relation = Literal["less than", "at least", "at most", "more than", "exactly"]

_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "less than": int.__lt__,
    "at least": int.__ge__,
    "at most": int.__le__,
    "more than": int.__gt__,
    "exactly": int.__eq__,
}


def _existence(text: str, *, keywords: list[str]) -> bool:
    return all(keyword.lower() in text.lower() for keyword in keywords)


def _frequency(text: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    return _HOLDS[relation](text.lower().count(keyword.strip().lower()), frequency)


def _forbidden_words(text: str, *, forbidden_words: list[str]) -> bool:
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words
    )


def _letter_frequency(
    text: str, *, letter: str, let_frequency: int, let_relation: Relation
) -> bool:
    return _HOLDS[let_relation](text.lower().count(letter.lower()), let_frequency)


def _number_words(text: str, *, num_words: int, relation: Relation) -> bool:
    return _HOLDS[relation](len(words(text)), num_words)


def _number_sentences(text: str, *, num_sentences: int, relation: Relation) -> bool:
    return _HOLDS[relation](len(sentences(text)), num_sentences)


def _number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Paragraphs are divided by `***`; an empty one between two others is a fault."""
    filled = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(filled[1:-1]) and sum(filled) == num_paragraphs


def _nth_paragraph_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Paragraphs are divided by a blank line."""
    paragraphs = [part.split() for part in text.split("\n\n") if part.strip()]
    if len(paragraphs) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    word = paragraphs[nth_paragraph - 1][0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _number_placeholders(text: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _postscript(text: str, *, postscript_marker: str) -> bool:
    """`P.S.` and `P.P.S` may have spaces after their points."""
    marker = postscript_marker.strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(patterns.get(marker, re.escape(marker)), text, re.IGNORECASE))


def _number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Counts bullet points, each a line that begins with `*` or `-`."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _constrained_response(text: str) -> bool:
    options = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
    return any(option in text for option in options)


def _number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    single = [part.strip("*") for part in re.findall(r"\*[^\n\*]*\*", text)]
    double = [part.strip("*") for part in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(1 for part in (*single, *double) if part.strip()) >= num_highlights


def _multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    heading = rf"{re.escape(section_spliter.strip())}\s?\d+"
    return len(re.findall(heading, text)) >= num_sections


def _title(text: str) -> bool:
    titles = re.findall(r"<<[^\n]+>>", text)
    return any(title.lstrip("<").rstrip(">").strip() for title in titles)


def _two_responses(text: str) -> bool:
    """Two different ones, divided by `******`."""
    filled = [part.strip() for part in text.split("******")]
    responses = [part for part in filled if part]
    return all(filled[1:-1]) and len(responses) == 2 and responses[0] != responses[1]


def _repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end_checker(text: str, *, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quotation(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _english_capital(text: str) -> bool:
    return text.isupper() and _may_be_english(text)


def _english_lowercase(text: str) -> bool:
    return text.islower() and _may_be_english(text)


def _capital_word_frequency(
    text: str, *, capital_frequency: int, capital_relation: Relation
) -> bool:
    """Words joined by a hyphen or a point (U.S.) are one word."""
    capitals = [word for word in re.findall(r"\w+(?:[-.]\w+)*", text) if word.isupper()]
    return _HOLDS[capital_relation](len(capitals), capital_frequency)


def _no_comma(text: str) -> bool:
    return "," not in text


def _response_language(text: str, *, language: str) -> bool:
    if language not in known_languages():
        known = ", ".join(sorted(known_languages()))
        raise ValueError(f"unknown language '{language}'; known languages: {known}")
    return bool(identifier(None).classify(text)[0] == language)


def _may_be_english(text: str) -> bool:
    language, probability = identifier(None).classify(text)
    return bool(language == "en" or probability < 0.5)


_CHECKS: dict[str, Callable[..., bool]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _response_language,
    "length_constraints:number_words": _number_words,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_first_word,
    "detectable_content:number_placeholders": _number_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _number_bullet_lists,
    "detectable_format:constrained_response": _constrained_response,
    "detectable_format:number_highlighted_sections": _number_highlighted_sections,
    "detectable_format:multiple_sections": _multiple_sections,
    "detectable_format:json_format": is_json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end_checker,
    "startend:quotation": _quotation,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "change_case:capital_word_frequency": _capital_word_frequency,
    "punctuation:no_comma": _no_comma,
}

CHECKS = {name: validate_call(check) for name, check in _CHECKS.items()}
"""IFEval's name of an instruction, and whether a text follows it, given its arguments."""
