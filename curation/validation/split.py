"""Which side of the train/test split a prompt is on, and whether two sets share prompts."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from schemas.records import Prompt, content_hash


def split_of(prompt_group: str, seed: int, test_share: float) -> Literal["train", "test"]:
    """The split of a prompt group (`Prompt.group`), the same in every stage and on every machine.

    It depends on group, seed and share alone: new rows never move an old prompt, and a larger
    share only moves prompts from train to test.
    """
    place = int(content_hash("split", seed, prompt_group), 16) / 16**20
    return "test" if place < test_share else "train"


class LeakReport(NamedTuple):
    leaked: list[str]
    """Ids of the test prompts that training holds too, near-equal ones included."""
    total: int
    """Distinct test prompts."""

    @property
    def share(self) -> float:
        return len(self.leaked) / self.total if self.total else 0.0


def leaks(train: Iterable[Prompt], test: Iterable[Prompt]) -> LeakReport:
    """The test prompts whose normalised form (`Prompt.group`) is among the training prompts'."""
    groups = {prompt.group for prompt in train}
    tested = {prompt.id: prompt for prompt in test}
    leaked = [prompt_id for prompt_id, prompt in tested.items() if prompt.group in groups]
    return LeakReport(leaked, len(tested))
