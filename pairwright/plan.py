"""What each stage depends on, and so which stages of a run still hold for a config.

A stage's fingerprint covers only what changes its files: the run's path, devices and how much may
be quarantined are left out. Models and templates count by the hash of their content, files by
their SHA-256, a user's own code by the SHA-256 of its module.
"""

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from schemas.annotations import AnnotationStore
from schemas.configs import (
    ANNOTATIONS,
    Config,
    LabelConfig,
    Method,
    PromptSource,
    RewardConfig,
)
from schemas.records import content_hash
from schemas.run_folder import Manifest, RunFolder, Stage, file_sha256

UPSTREAM: dict[str, tuple[str, ...]] = {
    "prompts": (),
    "generate": ("prompts",),
    "rank": ("prompts", "generate"),
    "label": ("prompts", "generate"),
    "aggregate": ("rank", "label"),
    "pair": ("prompts", "generate", "aggregate"),
    "validate": ("pair",),
    "export": ("validate",),
    "dpo": ("export",),
    "evaluate": ("prompts", "export", "dpo"),
}
"""The stages in the order of the road, and which of them each one reads."""

_OWN_PACKAGES = ("schemas", "curation", "dpo", "pairwright")

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
        self._digests: dict[PromptSource, str] = {}

    @property
    def stages(self) -> list[str]:
        """The stages of this config's road, in order; edited pairs need no ranking."""
        skipped = {"rank", "label", "aggregate"} if self.config.pair.edit else set()
        for section in ("rank", "label"):
            if getattr(self.config, section) is None:
                skipped.add(section)
        return [name for name in UPSTREAM if name not in skipped]

    @property
    def method(self) -> Method:
        """How judgements become rankings: people's votes decide where people are asked."""
        default: Method = "score" if self.config.label is None else "majority"
        return self.config.aggregate.method or default

    def upstream(self, stage: str) -> list[str]:
        unused = "label" if self.method == "score" else "rank"
        return [
            name
            for name in UPSTREAM[stage]
            if name in self.stages and not (stage == "aggregate" and name == unused)
        ]

    @property
    def annotations(self) -> AnnotationStore:
        """What people were asked and answered, in this run or another."""
        label = self.config.label
        return AnnotationStore(ANNOTATIONS if label is None else label.annotations)

    def settings(self, stage: str) -> dict[str, Any]:
        """The part of the config that the stage's files depend on."""
        config, model = self.config, self.config.model
        decoding = {"dtype": model.dtype, "date": model.date, "system_role": model.system_role}
        seed = {"seed": config.seed}
        match stage:
            case "prompts":
                sources = [source.model_dump(mode="json") for source in config.prompts]
                return {"sources": sources, "limit": self.limit}
            case "generate":
                return {**seed, **decoding, **config.generate.model_dump(mode="json")}
            case "rank":
                return {} if config.rank is None else config.rank.model_dump(mode="json")
            case "label":
                return {} if config.label is None else label_settings(config.label)
            case "aggregate":
                people = {} if self.method == "score" else {"min_votes": config.aggregate.min_votes}
                return {"method": self.method, "question": config.aggregate.question, **people}
            case "pair":
                return {**seed, **config.pair.model_dump(mode="json")}
            case "validate":
                gate = config.gate.model_dump(mode="json", exclude={"max_quarantined"})
                return {**seed, **gate, "system_role": model.system_role, "date": model.date}
            case "export":
                return {}
            case "dpo":
                dpo = config.dpo.model_dump(mode="json")
                return {**seed, "dtype": model.dtype, "max_length": config.gate.max_length, **dpo}
            case "evaluate":
                rewards = [reward.model_dump(mode="json") for reward in evaluation_rewards(config)]
                evaluate = config.evaluate.model_dump(mode="json") | {"rewards": rewards}
                abstain = {"abstain": config.rank.abstain} if config.rank else {}
                return {**seed, **decoding, **evaluate, **abstain}
        raise ValueError(f"no stage is called '{stage}'; stages are {', '.join(UPSTREAM)}")

    def outside(self, stage: str) -> dict[str, str]:
        """The digests of what the stage reads from outside the run."""
        config = self.config
        match stage:
            case "prompts":
                forgotten = sorted(self.annotations.forgotten("prompt"))
                kept_out = {"forgotten": content_hash(forgotten)} if forgotten else {}
                return self._files(stage) | kept_out
            case "generate":
                return {"weights": self._weights, "template": self._template}
            case "rank":
                return self._reward_inputs(config.rank.rewards if config.rank else ())
            case "label" | "aggregate":
                return self._people(stage)
            case "pair":
                return code_digests([config.pair.edit or config.pair.strategy])
            case "validate":
                return {"template": self._template} if config.gate.token_checks else {}
            case "dpo":
                return {"weights": self._weights, "template": self._template} | (
                    {"reference": self._weights_at(config.dpo.reference)}
                    if config.dpo.reference
                    else {}
                )
            case "evaluate":
                inputs = {"weights": self._weights, "template": self._template}
                inputs |= self._reward_inputs(evaluation_rewards(config))
                inputs |= self._files(stage)
                if config.evaluate.policy:
                    inputs["policy"] = self._weights_at(config.evaluate.policy)
                return inputs
        return {}

    def inputs(self, stage: str) -> dict[str, str]:
        """The digests of all that the stage reads; the stages before it must be complete."""
        before = {name: self.run.stage(name).digest() for name in self.upstream(stage)}
        return before | self.outside(stage)

    def status(self, name: str, *, outside: bool) -> Status:
        """How the stage on disk stands to the config.

        Files and people's answers that it reads are looked at where they are still there; with
        `outside`, its models and code are too, and all must be there.
        """
        stage = self.run.stage(name)
        manifest = stage.manifest()
        if manifest is None:
            return Status(name, "missing", "not run yet", None)
        changes = differences(manifest.config, self.settings(name))
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
        """The digests of the prompt sources that the stage reads."""
        sources = {"prompts": self.config.prompts, "evaluate": self.config.evaluate.prompts}
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
        return excluded if stage == "aggregate" and self.method != "score" else {}

    def _answers_missing(self, manifest: Manifest) -> int:
        """How many answers a run waits for, though some are frozen."""
        label = self.config.label
        missing = manifest.counts.get("answers_missing", 0)
        wanted = manifest.counts.get("answers_wanted", 0)
        enough = label is None or missing <= (1 - label.enough) * wanted
        return 0 if enough else missing

    @cached_property
    def _weights(self) -> str:
        from curation.models import weights_hash

        return weights_hash(self.config.model)

    @cached_property
    def _template(self) -> str:
        from curation.models import load_chat

        return load_chat(self.config.model).hash

    def _weights_at(self, path: str) -> str:
        from curation.models import weights_hash

        return weights_hash(self.config.model.model_copy(update={"path": path, "adapter": None}))

    def _reward_inputs(self, rewards: tuple[RewardConfig, ...]) -> dict[str, str]:
        from curation.rewards.weighted import build_reward

        inputs = code_digests([reward.use for reward in rewards])
        for component in build_reward(rewards).rewards if rewards else ():
            for what in ("weights", "template"):
                digest = getattr(component.reward, what, None)
                if isinstance(digest, str):
                    inputs[f"{component.name} {what}"] = digest
        return inputs


def label_settings(label: LabelConfig) -> dict[str, Any]:
    """The part of the config that says what people were asked."""
    asked = {"dataset", "kind", "pairs_a_prompt", "overlap", "criteria", "mirror", "assisted"}
    return label.model_dump(mode="json", include=asked)


def lost_files(stage: Stage, manifest: Manifest) -> list[str]:
    """The files that the manifest promises and the folder lacks; of DPO also the policy."""
    promised = [*manifest.parts, *(["policy"] if manifest.stage == "dpo" else [])]
    return [name for name in promised if not (stage.folder / name).exists()]


def evaluation_rewards(config: Config) -> tuple[RewardConfig, ...]:
    """The rewards that judge the policy: its own, or those that ranked."""
    if config.evaluate.rewards or config.rank is None:
        return config.evaluate.rewards
    return config.rank.rewards


def source_digest(source: PromptSource) -> str:
    """The hash of a prompt file or folder; of a hub name, which has no content here, its name."""
    path = Path(source.path)
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return content_hash([[str(file.relative_to(path)), file_sha256(file)] for file in files])
    return content_hash(source.path, source.split)


def code_digests(uses: list[str]) -> dict[str, str]:
    """The SHA-256 of each user module that a `package.module:name` points into."""
    digests = {}
    for use in uses:
        module = use.partition(":")[0]
        if module.partition(".")[0] in _OWN_PACKAGES:
            continue
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
            digests[f"code:{module}"] = file_sha256(Path(spec.origin))
    return digests


def differences(before: Any, now: Any, at: str = "") -> list[str]:
    """`key: old -> new` for every leaf where two configs differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            change
            for key in sorted(set(before) | set(now))
            for change in differences(before.get(key), now.get(key), f"{at}.{key}" if at else key)
        ]
    return [] if before == now else [f"{at}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
