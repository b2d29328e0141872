"""What each stage depends on, and so which stages of a run still hold for a config.

A stage's fingerprint covers only what changes its files: the run's path, devices and how much may
be quarantined are left out. Models and templates count by the hash of their content, files by
their SHA-256, a user's own code by the SHA-256 of its module.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pairwright.digests import code_digests, differences, source_digest
from pairwright.plugins import build
from pairwright.settings import (
    PolicyStage,
    online_reward,
    online_section,
    policy_stage,
    rewards_of_stage,
    stage_settings,
    trained_here,
)
from schemas.annotations import AnnotationStore
from schemas.configs import (
    ANNOTATIONS,
    Config,
    ConversationSource,
    Method,
    ModelConfig,
    PromptSource,
    RewardConfig,
)
from schemas.records import content_hash
from schemas.run_folder import Manifest, RunFolder, Stage

UPSTREAM: dict[str, tuple[str, ...]] = {
    "prompts": (),
    "sft": (),
    "generate": ("prompts", "sft"),
    "rank": ("prompts", "generate"),
    "label": ("prompts", "generate"),
    "aggregate": ("rank", "label"),
    "pair": ("prompts", "generate", "aggregate"),
    "validate": ("pair", "sft"),
    "export": ("validate",),
    "reward": ("export", "sft"),
    "dpo": ("export", "sft"),
    "grpo": ("prompts", "sft", "reward"),
    "ppo": ("prompts", "sft", "reward"),
    "evaluate": ("prompts", "sft", "export", "reward", "dpo", "grpo", "ppo"),
}
"""The stages in the order of the road, and which of them each one reads."""

ON_PAIRS = ("generate", "rank", "label", "aggregate", "pair", "validate", "export")
"""The stages that lead from prompts to pairs."""

TRAINED: dict[str, str] = {
    "sft": "policy",
    "reward": "model",
    "dpo": "policy",
    "grpo": "policy",
    "ppo": "policy",
}
"""The stages that train, and what the model of each is called in its folder."""

State = Literal["complete", "partial", "missing", "stale"]


class Status(NamedTuple):
    """How a stage on disk stands to a config."""

    stage: str
    state: State
    why: str
    manifest: Manifest | None


class Plan:
    """What a config asks of every stage of its run."""

    def __init__(self, config: Config, run: RunFolder, *, limit: int | None = None) -> None:
        self.config = config
        self.run = run
        self.limit = limit
        self._digests: dict[PromptSource | ConversationSource, str] = {}

    @property
    def stages(self) -> list[str]:
        """The stages of this config's road, in order.

        Edited pairs need no ranking, and a policy that is trained online no pairs, unless a reward
        model is to be trained on them.
        """
        config = self.config
        skipped = {"dpo", "grpo", "ppo"} - {self.policy_stage}
        skipped.update({"rank", "label", "aggregate"} if config.pair.edit else ())
        for section in ("sft", "rank", "label", "reward"):
            if getattr(config, section) is None:
                skipped.add(section)
        if self.policy_stage != "dpo" and config.reward is None:
            skipped.update(ON_PAIRS)
        return [name for name in UPSTREAM if name not in skipped]

    @property
    def policy_stage(self) -> PolicyStage:
        """The stage that trains the run's policy."""
        return policy_stage(self.config)

    @property
    def model(self) -> ModelConfig:
        """The SFT model of every stage after `sft`: what that trains, or else the config's."""
        if self.config.sft is None:
            return self.config.model
        whole = {
            "path": str(self.run.stage("sft").folder / TRAINED["sft"]),
            "revision": None,
            "adapter": None,
            "chat_template": None,
        }
        return self.config.model.model_copy(update=whole)

    @property
    def method(self) -> Method:
        """How judgements become rankings: people's votes decide where people are asked."""
        default: Method = "majority"
        if self.config.label is None:
            judged = self.config.rank is not None and self.config.rank.judge is not None
            default = "bradley-terry" if judged else "score"
        return self.config.aggregate.method or default

    @property
    def by_machine(self) -> bool:
        """Whether the rankings come from rewards or a judge alone."""
        return self.config.label is None or self.method == "score"

    def upstream(self, stage: str) -> list[str]:
        """The stages of the road that this one reads."""
        unused = {"label" if self.by_machine else "rank"} if stage == "aggregate" else set()
        if stage == "evaluate" and self.policy_stage != "dpo":
            unused.add("export")
        rewards = rewards_of_stage(self.config, stage)
        if not any(trained_here(self.config, reward) for reward in rewards):
            unused.add("reward")
        return [name for name in UPSTREAM[stage] if name in self.stages and name not in unused]

    @property
    def annotations(self) -> AnnotationStore:
        """What people were asked and answered, in this run or another."""
        label = self.config.label
        return AnnotationStore(ANNOTATIONS if label is None else label.annotations)

    def settings(self, stage: str) -> dict[str, Any]:
        """The part of the config that the stage's files depend on."""
        settings = stage_settings(self.config, stage)
        if stage == "prompts":
            return settings | {"limit": self.limit}
        if stage == "aggregate":
            people = {} if self.by_machine else {"min_votes": self.config.aggregate.min_votes}
            return {"method": self.method, **settings, **people}
        return settings

    def outside(self, stage: str) -> dict[str, str]:
        """The digests of what the stage reads from outside the run."""
        config = self.config
        match stage:
            case "prompts":
                forgotten = sorted(self.annotations.forgotten("prompt"))
                kept_out = {"forgotten": content_hash(forgotten)} if forgotten else {}
                return self._files(stage) | kept_out
            case "sft":
                return _model_digests(config.model) | self._files(stage)
            case "generate":
                if config.generate.endpoint is not None:
                    return {"template": self._template}
                return self._sft_model
            case "rank":
                judge = config.rank.judge if config.rank else None
                return self._reward_inputs(stage) | _judge_inputs(judge)
            case "label" | "aggregate":
                return self._people(stage)
            case "pair":
                return code_digests([config.pair.edit or config.pair.strategy])
            case "validate":
                return {"template": self._template} if config.gate.token_checks else {}
            case "reward":
                base = config.reward.base if config.reward else None
                return self._sft_model if base is None else {"weights": self._weights_at(base)}
            case "dpo":
                reference = config.dpo.reference
                other = {"reference": self._weights_at(reference)} if reference else {}
                return self._sft_model | other
            case "grpo" | "ppo":
                online = online_reward(config)
                judge = online.judge if online else None
                asked = self._reward_inputs(stage) | _judge_inputs(judge)
                return self._sft_model | asked | self._files(stage)
            case "evaluate":
                inputs = self._sft_model | self._reward_inputs(stage) | self._files(stage)
                if config.evaluate.policy:
                    inputs["policy"] = self._weights_at(config.evaluate.policy)
                if config.evaluate.origin is not None:
                    inputs["origin"] = _model_digests(config.evaluate.origin)["weights"]
                return inputs
        return {}

    def inputs(self, stage: str) -> dict[str, str]:
        """The digests of all that the stage reads; the stages before it must be complete."""
        before = {name: self.run.stage(name).digest() for name in self.upstream(stage)}
        return before | self.outside(stage)

    def status(self, name: str, *, outside: bool, but: Sequence[str] = ()) -> Status:
        """How the stage on disk stands to the config.

        Files and people's answers that it reads are looked at where they are still there; with
        `outside`, its models and code are too, and all must be there. Settings named in `but` may
        differ.
        """
        stage = self.run.stage(name)
        manifest = stage.manifest()
        if manifest is None:
            return Status(name, "missing", "not run yet", None)
        changes = [
            change
            for change in differences(manifest.config, self.settings(name))
            if change.partition(":")[0] not in but
        ]
        if changes:
            return Status(name, "stale", "config changed: " + "; ".join(changes), manifest)
        for above in self.upstream(name):
            state = self.status(above, outside=False).state
            if state != "complete":
                return Status(name, "stale", f"'{above}' is {state}", manifest)
            if manifest.inputs.get(above) != self.run.stage(above).digest():
                return Status(name, "stale", f"'{above}' was made again", manifest)
        now = self.outside(name) if outside else self._at_hand(name)
        before = {
            key: value
            for key, value in manifest.inputs.items()
            if key in now or (outside and key not in UPSTREAM)
        }
        changed = differences(before, now)
        if changed:
            keys = ", ".join(change.rpartition(": ")[0] for change in changed)
            return Status(name, "stale", f"changed: {keys}", manifest)
        lost = lost_files(stage, manifest)
        waiting = self._answers_missing(manifest) if outside and name == "label" else 0
        if waiting:
            return Status(name, "partial", f"{waiting} answers were missing", manifest)
        if manifest.state == "complete" and not lost:
            return Status(name, "complete", "", manifest)
        if manifest.state == "complete":
            return Status(name, "partial", f"lost {', '.join(lost)}", manifest)
        parts = len(stage.files())
        why = f"{parts} parts are there" if parts else "it was not finished"
        return Status(name, "partial", why, manifest)

    def _files(self, stage: str, *, missing_ok: bool = False) -> dict[str, str]:
        """The digests of the files that the stage reads."""
        config, section = self.config, online_section(self.config)
        sources: dict[str, tuple[PromptSource | ConversationSource, ...]] = {
            "prompts": config.prompts,
            "sft": config.sft.data if config.sft else (),
            "evaluate": config.evaluate.prompts,
        }
        if section is not None and section.watch.every:
            sources[self.policy_stage] = config.evaluate.prompts
        digests = {}
        for source in sources.get(stage, ()):
            if missing_ok and not Path(source.path).exists():
                continue
            if source not in self._digests:
                self._digests[source] = source_digest(source)
            digests[f"file:{source.path}"] = self._digests[source]
        return digests

    def _at_hand(self, stage: str) -> dict[str, str]:
        """The digests of what the stage reads from outside the run that are cheap and still there.

        A run may have been carried away from its prompts and from the store.
        """
        people = self._people(stage) if self.annotations.folder.is_dir() else {}
        return self._files(stage, missing_ok=True) | people

    def _people(self, stage: str) -> dict[str, str]:
        """The digests of people's answers and of whose do not count, where the stage reads them."""
        store = self.annotations
        excluded = {"excluded": content_hash(sorted(store.excluded()))}
        if stage == "label":
            return {"annotations": store.judgements.digest(), **excluded}
        return excluded if stage == "aggregate" and not self.by_machine else {}

    def _answers_missing(self, manifest: Manifest) -> int:
        """How many answers a run waits for, though some are frozen."""
        label = self.config.label
        missing = manifest.counts.get("answers_missing", 0)
        wanted = manifest.counts.get("answers_wanted", 0)
        enough = label is None or missing <= (1 - label.enough) * wanted
        return 0 if enough else missing

    @cached_property
    def _sft_model(self) -> dict[str, str]:
        """The digests of the model that the stages after `sft` read."""
        return _model_digests(self.model)

    @cached_property
    def _template(self) -> str:
        from curation.models import load_chat

        return load_chat(self.model).hash

    def _weights_at(self, path: str) -> str:
        from curation.models import weights_hash

        return weights_hash(self.config.model.model_copy(update={"path": path, "adapter": None}))

    def _reward_inputs(self, stage: str) -> dict[str, str]:
        from curation.rewards.weighted import build_reward

        rewards = rewards_of_stage(self.config, stage)
        inputs = code_digests(reward.use for reward in rewards)
        for reward in rewards:
            (component,) = build_reward([reward]).rewards
            for what in ("weights", "template"):
                digest = getattr(component.reward, what, None)
                key = f"{component.name} {what}"
                if isinstance(digest, str):
                    # What trains and what only watches may be called alike.
                    inputs[f"watched {key}" if key in inputs else key] = digest
        return inputs


def lost_files(stage: Stage, manifest: Manifest) -> list[str]:
    """The files that the manifest promises and the folder lacks; of a training also its model."""
    trained = TRAINED.get(manifest.stage)
    promised = [*manifest.parts, *([trained] if trained else [])]
    return [name for name in promised if not (stage.folder / name).exists()]


def _judge_inputs(judge: RewardConfig | None) -> dict[str, str]:
    """The digests of a judge's code and of the words it asks in."""
    if judge is None:
        return {}
    template = getattr(build(judge.use, judge.args, where="judge"), "template", None)
    asked_in = {"judge template": template} if isinstance(template, str) else {}
    return code_digests([judge.use]) | asked_in


def _model_digests(model: ModelConfig) -> dict[str, str]:
    """The hashes of weights and template; a base model may have no template."""
    from curation.chat import TemplateError
    from curation.models import load_chat, weights_hash

    weights = {"weights": weights_hash(model)}
    try:
        return weights | {"template": load_chat(model).hash}
    except TemplateError:
        return weights
