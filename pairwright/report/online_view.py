"""What a run's online training, GRPO or PPO, says: its figures and its doubts."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dpo.online import OnlineStep, Rollout
from dpo.rollouts import OnlineLog
from dpo.watch import Change, Value, change
from pairwright.report.finetuned_view import trained_facts
from pairwright.stored import StoredPrompts
from pairwright.written import literal, share
from schemas.configs import WatchConfig
from schemas.records import Prompt
from schemas.run_folder import Manifest, RunFolder

METHODS = {"grpo": "GRPO", "ppo": "PPO"}
"""The stages that train online, and how their methods are written."""
MUCH_UNFINISHED = 0.2
"""Share of the last rollouts cut off at the token limit from which on a reader is warned."""
_SETTINGS = {
    "num_generations": "Answers a prompt",
    "beta": "Weight of the KL",
    "final_kl_coef": "Weight of the KL, at the end",
    "loss_type": "Loss",
    "value": "Value model's trunk",
}
"""Facts of a training that the page tells, and what it calls them."""


class Figure(NamedTuple):
    """A mean over the first window of steps and over the last."""

    name: str
    unit: str
    change: Change
    digits: int


class Shown(NamedTuple):
    """A prompt and what the policy answered to it while it trained."""

    prompt: Prompt
    rollout: Rollout


class Online(NamedTuple):
    stage: str
    steps: list[OnlineStep]
    window: int
    """Steps at either end that are compared."""
    facts: dict[str, Any]
    shown: list[Shown]
    """Some rollouts of the first and of the last step."""

    @property
    def method(self) -> str:
        return METHODS[self.stage]

    @property
    def tokens(self) -> int:
        return self.steps[-1].tokens if self.steps else 0

    @property
    def rollouts(self) -> int:
        return sum(len(step.prompt_ids) for step in self.steps)

    @property
    def prompts(self) -> int:
        return len({prompt_id for step in self.steps for prompt_id in step.prompt_ids})

    @property
    def abstained(self) -> int:
        return sum(step.abstained for step in self.steps)

    @property
    def unfinished(self) -> int:
        return round(sum(step.unfinished * len(step.prompt_ids) for step in self.steps))

    @property
    def alarms(self) -> list[str]:
        return list(self.facts.get("health") or [])

    @property
    def is_gamed(self) -> bool:
        """Whether the training reward rose while a watched one fell."""
        return any(text.startswith("OVEROPTIMISED") for text in self.alarms)

    @property
    def stopped(self) -> str | None:
        """Why a rule ended the training; None: it went on to its last step."""
        return self.facts.get("stopped") or None

    @property
    def watched(self) -> list[str]:
        """The rewards that scored rollouts and trained nothing."""
        return sorted({name for step in self.steps for name in step.held_out_rewards})

    @property
    def is_watched(self) -> bool:
        """Whether anything but the training reward was measured."""
        return bool(self.watched) or any(step.held_out_reward is not None for step in self.steps)

    @property
    def figures(self) -> list[Figure]:
        """What the steps measured, where there are steps enough to compare."""
        found = (
            Figure(name, unit, compared, digits)
            for name, unit, value, digits in self._values()
            if (compared := change(self.steps, value, self.window)) is not None
        )
        return list(found)

    def _values(self) -> Iterator[tuple[str, str, Value, int]]:
        yield "training reward", "", lambda step: step.reward, 3
        parts = sorted({name for step in self.steps for name in step.components})
        if len(parts) > 1:
            yield from ((f"part {name}", "", component(name), 3) for name in parts)
        yield "reward on held-out prompts", "", lambda step: step.held_out_reward, 3
        yield from ((f"watched {name}", "", watched(name), 3) for name in self.watched)
        yield "KL to the SFT model", "nats a token", lambda step: step.kl, 4
        yield "entropy", "nats a token", lambda step: step.entropy, 3
        yield "length", "tokens", lambda step: step.length, 1
        yield "cut off at the limit", "share", lambda step: step.unfinished, 3
        yield "groups with equal rewards", "share", lambda step: step.equal_groups, 3
        yield "spread of the reward", "standard deviation", lambda step: step.reward_std, 3
        yield "clipped tokens", "share", lambda step: step.clip_fraction, 4
        yield "explained variance", "", lambda step: step.explained_variance, 3

    def data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "algorithm": self.stage,
            "steps": len(self.steps),
            "prompts": self.prompts,
            "rollouts": self.rollouts,
            "abstained": self.abstained,
            "unfinished": self.unfinished,
            "tokens_sampled": self.tokens,
            "window": self.window,
            "figures": {
                figure.name: {**figure.change._asdict(), "unit": figure.unit or None}
                for figure in self.figures
            },
            "alarms": self.alarms,
            "stopped": self.stopped,
        }


def read_online(run: RunFolder, manifests: Mapping[str, Manifest]) -> Online | None:
    """The run's online training; None where no such stage is complete.

    Raises:
        ValueError: a stored step is not what this version reads.
    """
    for name in METHODS:
        manifest = manifests.get(name)
        if manifest is None or manifest.state != "complete":
            continue
        config = manifest.config if isinstance(manifest.config, dict) else {}
        window = (config.get("watch") or {}).get("window", WatchConfig().window)
        facts = manifest.facts if isinstance(manifest.facts, dict) else {}
        steps = list(run.stage(name).read(OnlineStep))
        return Online(name, steps, window, facts, _shown(run, name, len(steps)))
    return None


def _shown(run: RunFolder, stage: str, steps: int) -> list[Shown]:
    """The rollouts of the highest and the lowest reward of the first step and of the last.

    Empty where the file is not there any more, or a prompt was forgotten.
    """
    judged: dict[int, list[Rollout]] = {1: [], steps: []}
    for rollout in OnlineLog(run.stage(stage).folder).read_rollouts():
        if rollout.step in judged and rollout.reward is not None:
            judged[rollout.step].append(rollout)
    chosen = []
    for rollouts in judged.values():
        rollouts.sort(key=lambda rollout: (rollout.reward, rollout.prompt_id), reverse=True)
        chosen += rollouts[:1] + rollouts[1:][-1:]
    try:
        prompts = StoredPrompts(run.stage("prompts")).of({item.prompt_id for item in chosen})
    except ValueError:
        return []
    return [Shown(prompts[rollout.prompt_id], rollout) for rollout in chosen]


def online_doubts(online: Online) -> Iterator[str]:
    """What to know before trusting the policy, gravest first."""
    yield from (f"{text}." for text in online.alarms)
    if online.stopped:
        yield f"A rule ended the training: {online.stopped}."
    last = online.steps[-online.window :]
    rollouts = sum(len(step.prompt_ids) for step in last)
    cut = round(sum(step.unfinished * len(step.prompt_ids) for step in last))
    if cut > MUCH_UNFINISHED * rollouts:
        yield (
            f"{cut:,} of {rollouts:,} rollouts of the last {len(last)} steps "
            f"({share(cut / rollouts)}) were cut off at the token limit."
        )


def component(name: str) -> Value:
    return lambda step: step.components.get(name)


def watched(name: str) -> Value:
    return lambda step: step.held_out_rewards.get(name)


def online_facts(online: Online) -> list[tuple[str, str]]:
    """What to say of the training, as terms and texts."""
    facts = online.facts
    steps = f"{len(online.steps):,}"
    told = [
        ("Algorithm", online.method),
        ("Rewards", _rewards(facts)),
        ("Steps", f"{steps}, then ended by a rule" if online.stopped else steps),
        ("Rollouts", f"{online.rollouts:,} of {online.prompts:,} prompts"),
        ("Tokens sampled", f"{online.tokens:,}"),
        ("Not judged", f"{online.abstained:,} of {online.rollouts:,} rollouts"),
        *(
            (f"Not judged by {literal(name)}", f"{number:,} rollouts")
            for name, number in online.facts.get("abstained_by", {}).items()
        ),
        ("Cut off at the limit", f"{online.unfinished:,} of {online.rollouts:,} rollouts"),
    ]
    told += [(term, _text(facts[key])) for key, term in _SETTINGS.items() if key in facts]
    return [*told, *trained_facts(facts)]


def _rewards(facts: Mapping[str, Any]) -> str:
    rewards = facts.get("rewards") or {}
    return ", ".join(f"{literal(name)} × {weight:g}" for name, weight in rewards.items()) or "–"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else literal(str(value))
