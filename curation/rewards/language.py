"""Whether an answer is in the language asked, and whether it says something of its own."""

from curation.languages import PLAUSIBLE, known_languages, language_of
from curation.rewards.rules import Rule
from curation.rewards.text import words_or_characters
from schemas.records import Completion, Prompt

_TAG = "lang:"


class AnswersInLanguage(Rule):
    """1 where the answer is in the language that the prompt asks in, else 0.

    The prompt's tag `lang:de` says which that is; without one, the language of its last user turn
    does. A prompt or an answer that is too short to tell (`curation.languages`) abstains; an empty
    answer is 0. The question said back, or one word over and over, is in the right language too:
    weigh `OwnWords` in.

    Raises:
        ValueError: a tag names a language that is not known.
    """

    name: str = "language"

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        wanted = _wanted(prompt)
        if wanted is None:
            return None
        if not completion.said.strip():
            return 0.0
        found = language_of(completion.said, tuple(sorted({*PLAUSIBLE, wanted})))
        return None if found is None else float(found == wanted)

    def judges(self, prompt: Prompt) -> bool:
        return _wanted(prompt) is not None

    def check(self, prompt: Prompt) -> None:
        _wanted(prompt)


class OwnWords(Rule):
    """The share of an answer's runs of words that are its own, 0 to 1.

    A run that stands in the prompt, or earlier in the answer, is not: the question said back, or
    one sentence over and over, comes near to 0. Case and punctuation do not count. An answer
    without a whole run is judged by its words, and one without words is 0. In a script that is
    written without spaces, as Chinese and Thai are, each character counts as a word.
    """

    name: str = "own_words"
    run: int = 3
    """Words a run."""

    def score(self, prompt: Prompt, completion: Completion) -> float:
        answer = _words(completion.said)
        run = min(self.run, len(answer))
        if not run:
            return 0.0
        asked = " \n ".join(turn.content or "" for turn in prompt.messages)
        said = set(_runs(_words(asked), run))
        own = 0
        runs = _runs(answer, run)
        for found in runs:
            own += found not in said
            said.add(found)
        return own / len(runs)


def _words(text: str) -> list[str]:
    return words_or_characters(text.lower())


def _runs(found: list[str], run: int) -> list[tuple[str, ...]]:
    return [tuple(found[start : start + run]) for start in range(len(found) - run + 1)]


def _wanted(prompt: Prompt) -> str | None:
    """The language that the prompt asks in; None where it is too short to tell."""
    tagged = [tag.removeprefix(_TAG) for tag in prompt.tags if tag.startswith(_TAG)]
    if tagged:
        if tagged[0] not in known_languages():
            known = ", ".join(sorted(known_languages()))
            raise ValueError(
                f"prompt '{prompt.id}': tag '{_TAG}{tagged[0]}' names no language that can be "
                f"detected; known languages: {known}"
            )
        return tagged[0]
    turns = [turn.content or "" for turn in prompt.messages if turn.role == "user"]
    return language_of(turns[-1]) if turns else None
