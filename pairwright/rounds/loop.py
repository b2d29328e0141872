"""Rounds: the road gone several times, each time from the policy that the round before trained.

A folder of rounds holds `round-1`, `round-2` ...: each a run like any other, whose SFT model is the
policy of the round before. What a round was made from is known by the hash of its weights, so a
round whose predecessor changed is made again.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pairwright.errors import CheckError
from pairwright.labels import asking
from pairwright.plan import TRAINED, Plan
from pairwright.progress import Progress
from pairwright.road import (
    Made,
    check_data,
    check_road,
    keep_config,
    make_road,
    open_plan,
    stored_plan,
)
from pairwright.settings import sampling_seed
from schemas.configs import Config, LabelConfig, ModelConfig
from schemas.records import content_hash
from schemas.run_folder import RunFolder


class Rounds(NamedTuple):
    """What a config asks of a folder of rounds."""

    config: Config
    """As it was given; `run` is the folder."""
    limit: int | None = None

    @property
    def folder(self) -> Path:
        return self.config.run

    @property
    def most(self) -> int:
        return self.config.rounds.count

    def run(self, number: int) -> RunFolder:
        """The run of a round, the first being 1."""
        return RunFolder(self.folder / f"round-{number}")

    def plan(self, number: int) -> Plan:
        """What is asked of a round's run."""
        run = self.run(number)
        return Plan(self._round_config(number), run, limit=self.limit)

    def _round_config(self, number: int) -> Config:
        config, run = self.config, self.run(number).path
        if number == 1:
            return config.model_copy(update={"run": run})
        begin = self._model(1)
        changed: dict[str, Any] = {
            "run": run,
            "sft": None,
            "model": self._model(number),
            # The samples are drawn anew. All else keeps the run's seed: the same prompts are held
            # out, and answered with the same draws, so that rounds can be compared.
            "generate": config.generate.model_copy(
                update={"seed": round_seed(sampling_seed(config), number)}
            ),
            "evaluate": config.evaluate.model_copy(update={"origin": begin}),
        }
        if config.label is not None:
            changed["label"] = _labels_of_round(config.label, number)
        return config.model_copy(update=changed)

    def _model(self, number: int) -> ModelConfig:
        """The SFT model of a round: what the first begins with, or the policy trained before."""
        first = Plan(self.config, RunFolder(self.run(1).path.absolute())).model
        if number == 1:
            return first
        trained = self.run(number - 1).stage("dpo").folder.absolute() / TRAINED["dpo"]
        if self.config.dpo.lora is not None:
            return first.model_copy(update={"adapter": str(trained)})
        whole = {"path": str(trained), "revision": None, "adapter": None, "chat_template": None}
        return first.model_copy(update=whole)


def round_seed(seed: int, number: int) -> int:
    """The seed of a round's samples: the run's own in the first, another in each further one."""
    return seed if number == 1 else int(content_hash("round", seed, number), 16) % 2**32


def open_rounds(
    config_file: Path, overrides: Sequence[str], *, run: Path | None, limit: int | None
) -> Rounds:
    """What a config file asks for, once nothing in it could stop a round after hours.

    Raises:
        ValueError: something could; found before any model loads.
    """
    rounds = Rounds(open_plan(config_file, overrides, run=run, limit=limit).config, limit)
    _check_config(rounds.config)
    if rounds.config.label is not None:
        last = _labels_of_round(rounds.config.label, max(2, rounds.most))
        asking.check_labels(last, rounds.config.aggregate)
    if RunFolder(rounds.folder).stages():
        raise ValueError(
            f"'{rounds.folder}' holds a run of its own; give the rounds another folder with "
            "--run DIR"
        )
    check_road(rounds.plan(1))
    _check_held_out(rounds.config)
    return rounds


def stored_rounds(folder: Path) -> Rounds:
    """The rounds in a folder, as the config that it keeps asks for them.

    Raises:
        ValueError: the folder keeps no config.
    """
    config = stored_plan(RunFolder(folder)).config
    limit = stored_plan(Rounds(config).run(1)).limit
    return Rounds(config, limit)


def make_rounds(
    rounds: Rounds, progress: Progress, after_round: Callable[[int, Sequence[Made]], bool]
) -> None:
    """The rounds made, gone on with, or reused where they still hold.

    `after_round` is told of each round that is complete, by number, and what became of its stages;
    it says whether another is to follow.

    Raises:
        CheckError: a round's data did not pass, or people have not answered yet.
    """
    with RunFolder(rounds.folder).writing():
        keep_config(Plan(rounds.config, RunFolder(rounds.folder)))
        for number in range(1, rounds.most + 1):
            progress.line(f"round {number} of {rounds.most}")
            try:
                made = make_road(rounds.plan(number), progress)
            except CheckError as error:
                raise CheckError(f"round {number}: {error}") from error
            if not after_round(number, made):
                return


class RoundState(NamedTuple):
    number: int
    state: str
    """`complete`, `partial`, `missing` or `stale`."""
    why: str


def round_states(rounds: Rounds) -> Iterator[RoundState]:
    """How each round on disk stands to the config; manifests alone are read.

    A round that follows one which does not hold cannot hold either.
    """
    doubt = ""
    for number in range(1, rounds.most + 1):
        found = _state(rounds, number)
        if found.state == "complete" and doubt:
            found = RoundState(number, "stale", doubt)
        if found.state != "complete":
            doubt = doubt or f"round {number} is {found.state}"
        yield found


def _state(rounds: Rounds, number: int) -> RoundState:
    plan = rounds.plan(number)
    if not plan.run.stages():
        return RoundState(number, "missing", "not run yet")
    begun = plan.run.stage("generate").manifest()
    trained = rounds.run(number - 1).stage("dpo").manifest() if number > 1 else None
    if begun is not None and trained is not None and trained.state == "complete":
        weights = trained.facts.get("weights") if isinstance(trained.facts, dict) else None
        if begun.inputs.get("weights") != weights:
            return RoundState(number, "stale", f"round {number - 1} trained another policy")
    for name in plan.stages:
        status = plan.status(name, outside=False)
        if status.state != "complete" or status.manifest is None:
            # A round that was stopped has stages that were not begun.
            state = "partial" if status.state == "missing" else status.state
            return RoundState(number, state, f"'{name}' is {status.state} ({status.why})")
        try:
            check_data(plan, status.manifest)
        except CheckError as refused:
            return RoundState(number, "partial", str(refused))
    return RoundState(number, "complete", "")


def _check_config(config: Config) -> None:
    online = "grpo" if config.grpo is not None else "ppo" if config.ppo is not None else None
    if online is not None:
        raise ValueError(
            f"the config has a section '{online}', which samples from the newest policy at every "
            "step by itself; rounds repeat dpo: leave the section out, or use `pairwright run`"
        )
    if config.reward is not None:
        raise ValueError(
            "the config has a section 'reward', and rounds train policies alone; leave it out, and "
            "name a reward model that is trained already in rank.rewards"
        )
    if config.generate.endpoint is not None:
        raise ValueError(
            "generate.endpoint is set, but a server goes on answering with the weights that it "
            "has while rounds train new ones; leave it out"
        )
    for key in ("policy", "origin"):
        if getattr(config.evaluate, key) is not None:
            raise ValueError(
                f"evaluate.{key} is set, but rounds choose it themselves: each round's policy is "
                "compared with the round before, and with the first model; leave it out"
            )
    if not config.evaluate.prompts:
        raise ValueError(
            "evaluate.prompts is empty, and rounds are to be compared on the same prompts, which "
            "the pairs' test split is not; give held-out prompts that no round asks"
        )


def _check_held_out(config: Config) -> None:
    """Return if no held-out prompt may be trained on in some round.

    Raises:
        ValueError: one may.
    """
    from curation.prompts import load_prompts
    from curation.validation.split import leaks

    found = leaks(
        load_prompts(config.prompts).prompts, load_prompts(config.evaluate.prompts).prompts
    )
    if found.leaked:
        raise ValueError(
            f"{len(found.leaked)} of {found.total} prompts of evaluate.prompts ask the same as one "
            f"of prompts, '{found.leaked[0]}' first, so that one round could train on what another "
            "is measured on; take them out of either file"
        )


def _labels_of_round(label: LabelConfig, number: int) -> LabelConfig:
    return label.model_copy(update={"dataset": f"{label.dataset} round {number}"})
