"""What a policy that was trained online answered to one prompt, step by step, from files alone."""

from collections.abc import Iterator

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dpo.online import Rollout
from dpo.rollouts import OnlineLog
from pairwright.trace.view import number, prompt_lines, section, shortened
from schemas.arrow import from_table
from schemas.records import Prompt, Record
from schemas.run_folder import RunFolder, Stage

ONLINE = ("grpo", "ppo")


class PromptHistory(Record):
    """A prompt and every answer to it that the policy learned from."""

    prompt: Prompt
    stage: str
    rollouts: tuple[Rollout, ...] = ()
    """In the order of the steps."""
    fingerprint: str = ""
    """Of the training behind this history."""


def online_stage(run: RunFolder) -> Stage | None:
    """The stage that trained the run's policy on its own answers, if one did."""
    stages = run.stages()
    return next((stages[name] for name in ONLINE if name in stages), None)


def trace_prompt(run: RunFolder, prompt_id: str) -> PromptHistory:
    """The history of the prompt whose id starts so; `p-` may be left out.

    Raises:
        ValueError: no prompt, or more than one, has such an id, or nothing was trained online.
    """
    stage = online_stage(run)
    if stage is None:
        raise ValueError(f"run '{run.path}' has no policy that was trained online")
    prompt = _unique(run, prompt_id)
    manifest = stage.manifest()
    rollouts = OnlineLog(stage.folder).read_rollouts()
    return PromptHistory(
        prompt=prompt,
        stage=stage.folder.name,
        rollouts=tuple(rollout for rollout in rollouts if rollout.prompt_id == prompt.id),
        fingerprint="" if manifest is None else manifest.fingerprint,
    )


def prompt_ids(run: RunFolder) -> Iterator[str]:
    """The ids of the run's prompts."""
    for file in run.stage("prompts").files():
        yield from pq.read_table(file, columns=["id"])["id"].to_pylist()


def prompt_history_view(history: PromptHistory) -> RenderableType:
    """The prompt, then a line a rollout."""
    table = Table(
        "step", "reward", "rewards by name", "advantage", "KL", "answer", box=None, pad_edge=False
    )
    for rollout in history.rollouts:
        by_name = rollout.components | {
            f"{name} (watched)": score for name, score in rollout.held_out_rewards.items()
        }
        table.add_row(
            str(rollout.step),
            "abstained" if rollout.reward is None else number(rollout.reward),
            Text(", ".join(f"{name} {number(score)}" for name, score in by_name.items())),
            number(rollout.advantage),
            number(rollout.kl),
            Text(shortened(rollout.text) + ("" if rollout.finished else " (cut off)")),
        )
    return Group(
        Text(history.prompt.id, style="bold"),
        *section("prompt", prompt_lines(history.prompt)),
        Text(f"rollouts, {history.stage}", style="bold"),
        Padding(table if history.rollouts else Text("no step asked it"), (0, 0, 0, 2)),
    )


def _unique(run: RunFolder, prefix: str) -> Prompt:
    full = prefix if prefix.startswith("p-") else f"p-{prefix}"
    tables = [
        pq.read_table(file, filters=pc.starts_with(pc.field("id"), full))
        for file in run.stage("prompts").files()
    ]
    found = [prompt for table in tables for prompt in from_table(table, Prompt)]
    if not found:
        raise ValueError(
            f"run '{run.path}' has no prompt '{prefix}'; `pairwright show {run.path}` counts them"
        )
    if len(found) > 1:
        some = ", ".join(sorted(prompt.id for prompt in found)[:3])
        raise ValueError(
            f"'{prefix}' is the start of {len(found)} prompt ids: {some} ...; write more"
        )
    return found[0]
