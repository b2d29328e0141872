"""What a run's fine-tuning of the SFT model and its reward model say, as the report shows them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from curation.proportions import proportion
from dpo.reward_accuracy import Accuracy, CalibrationBin, HeldOut
from pairwright.report import charts, curves
from pairwright.stored import columns
from pairwright.written import number, share
from schemas.arrow import first_error
from schemas.run_folder import Manifest, RunFolder


class FineTuned(NamedTuple):
    """A training on a fixed set of rows."""

    losses: list[tuple[int, float]]
    """Of each optimiser step."""
    epochs: float
    facts: dict[str, Any]

    @property
    def held_out_losses(self) -> tuple[float, float] | None:
        """SFT: the loss on conversations held out, before and after; None if none are."""
        found = self.facts.get("held_out") or {}
        before, after = found.get("loss_before"), found.get("loss_after")
        return None if before is None or after is None else (before, after)

    def data(self) -> dict[str, Any]:
        return {
            "steps": len(self.losses),
            "epochs": self.epochs,
            "first_loss": self.losses[0][1] if self.losses else None,
            "last_loss": self.losses[-1][1] if self.losses else None,
        }


class RewardModel(NamedTuple):
    """A reward model's training and how it judges pairs held out of it."""

    trained: FineTuned
    held_out: HeldOut | None


def read_sft(run: RunFolder, manifests: Mapping[str, Manifest]) -> FineTuned | None:
    """The fine-tuning of the SFT model; None where that stage is not complete."""
    return _read(run, manifests, "sft")


def read_reward_model(run: RunFolder, manifests: Mapping[str, Manifest]) -> RewardModel | None:
    """The training of the reward model; None where that stage is not complete.

    Raises:
        ValueError: what it noted about held-out pairs is not what this version reads.
    """
    trained = _read(run, manifests, "reward")
    if trained is None:
        return None
    try:
        said = trained.facts.get("held_out")
        held_out = None if said is None else HeldOut.model_validate(said)
    except ValidationError as error:
        raise ValueError(
            f"stage 'reward' of run '{run.path}' holds no account of held-out pairs that this "
            f"version reads ({first_error(error)}); run reward again"
        ) from None
    return RewardModel(trained, held_out)


def _read(run: RunFolder, manifests: Mapping[str, Manifest], name: str) -> FineTuned | None:
    manifest = manifests.get(name)
    if manifest is None or manifest.state != "complete":
        return None
    rows = columns(run.stage(name), ["step", "epoch", "loss"]).to_pylist()
    facts = manifest.facts if isinstance(manifest.facts, dict) else {}
    losses = [(row["step"], row["loss"]) for row in rows]
    return FineTuned(losses, rows[-1]["epoch"] if rows else 0.0, facts)


def finetuned_doubts(sft: FineTuned | None, reward: RewardModel | None) -> Iterator[str]:
    """What to know before trusting the SFT model and the reward model."""
    if sft is not None:
        yield from (f"SFT: {text}." for text in sft.facts.get("health") or [])
        before, after = sft.held_out_losses or (1.0, 0.0)
        if after >= before:
            yield (
                f"SFT did not lower the loss on held-out conversations ({number(before, 3)} "
                f"before, {number(after, 3)} after)."
            )
    if reward is not None:
        yield from (f"Reward model: {text}." for text in reward.trained.facts.get("health") or [])


def finetuned_charts(sft: FineTuned | None, reward: RewardModel | None) -> dict[str, str]:
    """SVG by name; a chart that has nothing to show is left out."""
    drawn: dict[str, str | None] = {}
    if sft is not None:
        drawn["sft_loss"] = _loss(sft, "loss, nats a trained token")
    if reward is not None:
        drawn["reward_loss"] = _loss(reward.trained, "loss")
        if reward.held_out is not None:
            drawn |= _held_out_charts(reward.held_out)
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _loss(trained: FineTuned, title: str) -> str | None:
    """The loss over steps and, where it was measured, on held-out rows before and after."""
    if not trained.losses:
        return None
    steps, losses = zip(*trained.losses, strict=True)
    lines = [curves.Line("training", charts.Series(steps, losses), charts.POLICY)]
    if trained.held_out_losses is not None:
        ends = charts.Series([0, steps[-1]], trained.held_out_losses)
        lines.append(curves.Line("held out", ends, charts.WORSE, sparse=True))
    return curves.curves(lines, title)


def _held_out_charts(found: HeldOut) -> dict[str, str | None]:
    dots = [_dot("reward model", found.accuracy), _dot("floor: longer wins", found.floor)]
    if found.ceiling is not None:
        right = found.ceiling.accuracy
        dots.append(charts.ShareDot("ceiling: truth known", right, right, right, None, False))
    bins = [_bin(item) for item in found.calibration]
    labels = ("how sure the model is of its preference", "how often labels agree")
    return {
        "reward_accuracy": charts.share_plot(
            [dot for dot in dots if dot is not None], "held-out pairs ordered as labelled"
        ),
        "calibration": curves.calibration(bins, labels, "pairs") if bins else None,
    }


def _dot(name: str, found: Accuracy) -> charts.ShareDot | None:
    if found.share is None or found.low is None or found.high is None:
        return None
    return charts.ShareDot(name, found.share, found.low, found.high, 0.5, False)


def _bin(item: CalibrationBin) -> curves.Bin:
    seen = proportion(round(item.observed * item.n), item.n)
    low, high = seen.low or 0.0, seen.high or 1.0
    return curves.Bin(
        item.n, item.predicted, item.observed, min(low, item.observed), max(high, item.observed)
    )


def sft_facts(sft: FineTuned) -> list[tuple[str, str]]:
    """What to say of the fine-tuning, as terms and texts."""
    facts = sft.facts
    rows, tokens = facts.get("rows") or {}, facts.get("tokens") or {}
    told = []
    if rows:
        told.append(
            (
                "Conversations",
                f"{rows['trained']:,} trained on, {rows['held_out']:,} held out, "
                f"{rows['quarantined']:,} refused",
            )
        )
    if tokens.get("all"):
        trained = f"{tokens['trained']:,} of {tokens['all']:,}"
        told.append(
            ("Tokens trained on", f"{trained} ({share(tokens['trained'] / tokens['all'])})")
        )
    if sft.held_out_losses is not None:
        before, after = sft.held_out_losses
        told.append(("Held-out loss", f"{number(before, 3)} before, {number(after, 3)} after"))
    return [*told, *trained_facts(facts), ("Steps", steps_text(sft))]


def reward_facts(reward: RewardModel) -> list[tuple[str, str]]:
    """What to say of the reward model, as terms and texts."""
    facts, found = reward.trained.facts, reward.held_out
    told = [("Pairs trained on", f"{facts['pairs']:,}")] if "pairs" in facts else []
    if found is not None:
        told.append(("Calibration error", number(found.calibration_error, 3)))
        told.append(("Brier score", number(found.brier, 3)))
        told.append(("Held out, scored alike", f"{found.ties:,} pairs"))
        told.append(("Held out, not scored", f"{found.abstained:,} pairs"))
    return [*told, *trained_facts(facts), ("Steps", steps_text(reward.trained))]


def trained_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was trained and in which precision, as every training tells it."""
    trainable, total = facts.get("trainable_parameters"), facts.get("parameters")
    method = {"lora": "LoRA", "full": "all weights"}.get(str(facts.get("method")), "–")
    if trainable and total:
        method = f"{method}, {trainable:,} of {total:,} parameters"
    precision = str(facts.get("precision", "–")).removeprefix("torch.")
    return [("Method", method), ("Precision", f"{precision} on {facts.get('device', '–')}")]


def steps_text(trained: FineTuned) -> str:
    return f"{len(trained.losses):,} over {round(trained.epochs, 2):g} epochs"
