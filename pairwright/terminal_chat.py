"""Two policies side by side in the terminal: the SFT model and what the run trained from it."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pairwright.written import literal
from schemas.records import Message, Prompt

if TYPE_CHECKING:
    from curation.models import Policy
    from schemas.configs import EvaluateConfig

NEW = "/new"
"""The line that starts a conversation afresh."""


class Answers(NamedTuple):
    """What the two answered to one line."""

    line: str
    answers: dict[str, str]
    """By the two names."""


def converse(
    lines: Iterable[str],
    base: "Policy",
    policy: "Policy",
    config: "EvaluateConfig",
    *,
    seed: int,
    names: tuple[str, str] = ("SFT model", "policy"),
) -> Iterator[Answers]:
    """What base and policy answer to each line, by their names; each remembers its conversation.

    An empty line is skipped. `base` may be the policy's own model under an adapter.
    """
    from curation.generators import TransformersGenerator
    from dpo.kl import base_weights

    def sampler(of: "Policy") -> TransformersGenerator:
        return TransformersGenerator(of, config, batch_size=1, seed=seed)

    before, after = names
    generators = {before: sampler(base), after: sampler(policy)}
    scopes = {before: lambda: base_weights(policy, base), after: nullcontext}
    heard: dict[str, tuple[Message, ...]] = dict.fromkeys(generators, ())
    for line in map(str.strip, lines):
        if line == NEW:
            heard = dict.fromkeys(generators, ())
        elif line:
            answers = {}
            for name, generator in generators.items():
                prompt = Prompt(messages=(*heard[name], Message(role="user", content=line)))
                with scopes[name]():
                    ((_, candidates),) = generator.generate([prompt], n=1)
                completion = candidates[0].completion
                heard[name] = (*prompt.messages, *completion.messages)
                answers[name] = completion.text
            yield Answers(line, answers)


def read_lines(source: TextIO, *, prompt: TextIO) -> Iterator[str]:
    """The lines that come in, asked for where a person types them, until the input ends."""
    while True:
        if source.isatty():
            print("> ", end="", file=prompt, flush=True)
        line = source.readline()
        if not line:
            return
        yield line


def side_by_side(answers: Answers) -> RenderableType:
    """The answers in columns of equal width, under their policies' names."""
    table = Table(*answers.answers, title=Text(literal(answers.line), style="bold"), expand=True)
    for column in table.columns:
        column.ratio = 1
    table.add_row(*(Text(literal(answer)) for answer in answers.answers.values()))
    return table
