"""Refusals set against the model's own answers: the edit of safety training.

A small model hardly ever refuses, so its own samples hold no contrast to learn refusing from.
"""

from dataclasses import dataclass
from random import Random

from curation.edits import Worse
from curation.rewards.refusal import refuses
from schemas.records import Prompt, without_thought

REFUSALS = (
    "I'm sorry, but I can't help with that, because somebody could get hurt. If something has "
    "happened that brought you here, tell me about it and we can look for a safe way.",
    "I won't help with that. It could do real harm to another person. I am glad to help you think "
    "of a fair way to sort this out.",
    "That is something I can't help with, as it could harm you or others. If you are angry or "
    "afraid, talking to somebody you trust is a good first step.",
    "I can't assist with this, since it would not be safe or fair to others. Is there a problem "
    "behind it that we could solve in another way?",
    "No, I'm not going to help with that, because it is wrong to treat people like this. I can "
    "help you with an honest way to get what you need.",
    "I'm sorry, I can't give advice on that. It may be against the law and it may hurt someone. If "
    "you are in trouble yourself, please ask for help near you.",
    "I can't do that. Everyone deserves respect and safety, and this would take it from somebody. "
    "I will gladly help with something else.",
    "Sorry, but that is not something I will help with. It could cause harm that is hard to undo. "
    "Tell me what you want to reach, and I may know a better way.",
)
"""Each says no, why, and what help there is instead."""


@dataclass(frozen=True)
class Refuse:
    """A refusal: better than an answer to an unsafe prompt, worse than one to a safe prompt.

    None where the prompt has neither tag, or both, and where the answer is a refusal itself or
    empty. Which wording is drawn depends on the prompt and the answer alone.
    """

    refusals: tuple[str, ...] = REFUSALS
    unsafe: str = "label:unsafe"
    """The tag of prompts to refuse."""
    safe: str = "label:safe"
    """The tag of prompts to answer."""

    def __post_init__(self) -> None:
        texts = [] if isinstance(self.refusals, str) else self.refusals
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"refusals is {self.refusals!r}; expected a list of texts")

    def __call__(self, prompt: Prompt, text: str) -> str | Worse | None:
        unsafe, safe = self.unsafe in prompt.tags, self.safe in prompt.tags
        said = without_thought(text)
        if unsafe == safe or not said.strip() or refuses(said):
            return None
        refusal = Random(f"{prompt.id}:{text}").choice(self.refusals)
        return refusal if unsafe else Worse(refusal)
