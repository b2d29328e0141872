"""Whether an answer names its speaker as it should, and only where it is asked."""

from curation.identity import mentions, names_given
from curation.rewards.rules import Rule
from schemas.records import Completion, Prompt


class UsesName(Rule):
    """Prompts with the tag: 1 where the answer has the name and gives itself no other, else 0.

    Other prompts: 1 where the answer leaves the name out, else 0. An empty answer is 0 either way.
    """

    name: str = "uses_name"
    who: str
    """The name that the model is to have."""
    tag: str = "identity"

    def score(self, prompt: Prompt, completion: Completion) -> float:
        text = completion.said
        if not text.strip():
            return 0.0
        if self.tag not in prompt.tags:
            return float(not mentions(text, self.who))
        others = {given for given in names_given(text) if given.lower() != self.who.lower()}
        return float(mentions(text, self.who) and not others)
