"""The config's simulated annotators at work: scripts in people's place."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pairwright.labels.asking import label_config, own_datasets
from pairwright.plan import Plan
from pairwright.settings import evaluation_rewards
from pairwright.stages.pipeline import Road
from schemas.configs import PromptSource
from schemas.records import (
    Completion,
    Message,
    Prompt,
)

if TYPE_CHECKING:
    from curation.argilla.client import Client
    from curation.argilla.simulated import Judge


def answer_by_script(road: Road, client: "Client") -> None:
    """Have the config's simulated annotators answer what is put before them."""
    from curation.argilla.simulated import answer_all

    plan = road.plan
    config = label_config(plan)
    scripts = answer_all(
        client,
        config.simulated,
        _reading_judge(plan),
        seed=plan.config.seed,
        datasets=own_datasets(plan),
    )
    for done in scripts:
        road.progress.line(
            f"label: {done.annotator} (a script) submitted {done.submitted}, "
            f"discarded {done.discarded}"
        )


def _reading_judge(plan: Plan) -> "Judge":
    """What a person would think of the answers on a page: the config's reward, from texts alone.

    A person understands what a prompt asks for; a script looks it up by the words of the prompt.
    """
    from curation.argilla.text import shown_messages
    from curation.prompts import load_prompts
    from curation.rewards.weighted import build_reward

    rank = plan.config.rank
    reward = build_reward(evaluation_rewards(plan.config), rank.abstain if rank else "renormalise")
    known = list(plan.run.stage("prompts").read(Prompt))
    gold = label_config(plan).gold
    if gold is not None:
        known += load_prompts([PromptSource(path=gold.path)]).prompts
    by_words = {json.dumps(shown_messages(prompt)): prompt for prompt in known}

    def judge(messages: list[dict[str, str]], texts: list[str]) -> Sequence[float | None]:
        prompt = by_words.get(json.dumps(messages))
        if prompt is None:
            prompt = Prompt(messages=tuple(Message.model_validate(turn) for turn in messages))
        completions = [Completion.from_text(text) for text in texts]
        return reward([prompt] * len(texts), completions)

    return judge
