"""What an evaluation says, drawn from its records alone.

A prompt's value is the mean over its samples, an answer that was sampled twice counting twice; the
figures are means over prompts, and prompts are what the bootstrap resamples. A prompt without a
scored sample on both sides enters no reward figure and is counted as unscored.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from curation.validation.split import leaks
from dpo.kl import estimator
from dpo.statistics import (
    Estimate,
    Resampling,
    intercept_interval,
    mean_interval,
    ratio_interval,
)
from schemas.configs import EvaluateConfig, SamplingConfig
from schemas.records import Candidate, Instruction, Json, Prompt, Record

SAME_LENGTH = 0.1
"""The share by which a prompt's mean length may change and still count as the same."""


class Sample(Record):
    """One distinct answer of a policy and what was measured on it."""

    candidate: Candidate
    reward: float | None = None
    """None: the reward abstained."""
    components: Json
    """The score of each reward in the sum, by name; null where it abstained."""
    tokens: int
    """Length, the end-of-sequence token included."""
    kl: float | None = None
    """Mean KL to the base over this answer's tokens, in nats; only on the policy's side."""
    kl_to_origin: float | None = None
    """The same to a third model, where one is given."""


class EvaluationRecord(Record):
    """One held-out prompt and what each policy answered to it."""

    prompt: Prompt
    base: tuple[Sample, ...]
    policy: tuple[Sample, ...]

    @property
    def reward_before(self) -> float | None:
        """Mean reward of the base; None where none of its answers has a score."""
        return _mean(self.base, _reward)

    @property
    def reward_after(self) -> float | None:
        """Mean reward of the policy; None where none of its answers has a score."""
        return _mean(self.policy, _reward)

    @property
    def gain(self) -> float | None:
        """Mean reward of the policy less that of the base; None where a side has no score."""
        before, after = self.reward_before, self.reward_after
        return None if before is None or after is None else after - before

    @property
    def kinds(self) -> frozenset[str]:
        """What this prompt counts under: its instructions; its tags where it has none.

        "At least" and "less than" are two kinds: an answer can be good at one of them alone.
        """
        return frozenset(map(_kind, self.prompt.instructions)) or frozenset(self.prompt.tags)


def _kind(instruction: Instruction) -> str:
    kwargs = instruction.kwargs if isinstance(instruction.kwargs, dict) else {}
    relations = [kwargs[key] for key in sorted(kwargs) if key.endswith("relation")]
    return " ".join([instruction.name, *map(str, relations)])


class Change(Record):
    """A figure before and after, over the same prompts, and the paired difference."""

    before: float | None
    after: float | None
    change: Estimate


class WinRate(Estimate):
    """Expected win of a sample of the policy over one of the base; a tie is half a win."""

    win: float | None
    tie: float | None
    loss: float | None


class LengthControl(Record):
    """Whether a gain in reward is more than a change in length."""

    same_length: Estimate
    """Gain among the prompts whose mean length changed by at most a tenth."""
    intercept: Estimate
    """Gain where length did not change, by the least-squares line of gain on change in tokens."""
    slope: float | None
    """Reward a token, by that line."""
    correlation: float | None
    """Pearson's, of gain and change in tokens; None where either does not vary."""
    only_length: bool
    """A clear gain with a clear change in length, and no clear gain at unchanged length."""


class Divergence(Estimate):
    per_answer: float | None
    """Summed over an answer instead of averaged over tokens."""
    estimator: str


class KindGain(Record):
    """One kind of prompt. Evaluations kept from before hold no tokens and no KL."""

    kind: str
    before: float | None
    after: float | None
    gain: Estimate
    tokens_before: float | None = None
    """Mean length of an answer."""
    tokens_after: float | None = None
    kl_per_token: Estimate | None = None
    """To the base, in nats."""


class Leaks(Record):
    """Held-out prompts that training saw too."""

    count: int
    share: float
    prompt_ids: tuple[str, ...]


class EvaluationSummary(Record):
    prompts: int
    unscored_prompts: int
    """Prompts on which one side has no score at all."""
    abstained: dict[str, int]
    """Samples that the reward did not score, by side."""
    n: int
    """Samples a prompt and side."""
    sampling: Json
    seed: int
    confidence_level: float
    resamples: int
    reward_before: float | None
    reward_after: float | None
    reward_gain: Estimate
    components: dict[str, Change]
    by_kind: tuple[KindGain, ...]
    """By name; a prompt of several kinds counts under each."""
    win_rate: WinRate
    length: Change
    """In tokens."""
    length_control: LengthControl
    truncated: Change
    """Share of answers cut off at the token limit."""
    kl_per_token: Divergence
    kl_to_origin: Divergence | None = None
    """To a third model; None where none is given."""
    leaks: Leaks | None
    """None: it is not known what training saw."""


def summarise(
    records: Sequence[EvaluationRecord],
    config: EvaluateConfig,
    *,
    seed: int,
    train_prompts: Iterable[Prompt] | None = None,
    no_kl: str | None = None,
    has_origin: bool = False,
    no_kl_to_origin: str | None = None,
) -> EvaluationSummary:
    """The summary of an evaluation; `no_kl` says why its records carry no KL.

    `has_origin`: a third model was given, to which KL is measured too.
    """
    how = Resampling(config.confidence_level, config.resamples, seed)
    scored = [record for record in records if record.gain is not None]
    reward = _change(scored, _reward, how)
    return EvaluationSummary(
        prompts=len(records),
        unscored_prompts=len(records) - len(scored),
        abstained=_abstained(records),
        n=config.n,
        sampling=config.model_dump(include=set(SamplingConfig.model_fields)),
        seed=seed,
        confidence_level=config.confidence_level,
        resamples=config.resamples,
        reward_before=reward.before,
        reward_after=reward.after,
        reward_gain=reward.change,
        components=_components(records, how),
        by_kind=_by_kind(scored, how),
        win_rate=_win_rate(scored, how),
        length=_change(records, _tokens, how),
        length_control=_length_control(scored, reward.change, how),
        truncated=_change(records, _truncated, how),
        kl_per_token=_divergence(records, _kl, estimator("base"), no_kl, how),
        kl_to_origin=(
            _divergence(records, _kl_to_origin, estimator("origin"), no_kl_to_origin, how)
            if has_origin
            else None
        ),
        leaks=None if train_prompts is None else _leaks(records, train_prompts),
    )


def _reward(sample: Sample) -> float | None:
    return sample.reward


def _tokens(sample: Sample) -> float:
    return sample.tokens


def _kl(sample: Sample) -> float | None:
    return sample.kl


def _kl_to_origin(sample: Sample) -> float | None:
    return sample.kl_to_origin


def _component(name: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.components.get(name)


def _truncated(sample: Sample) -> float:
    return float(sample.candidate.completion.finish_reason == "length")


def _mean(samples: Iterable[Sample], value: Callable[[Sample], float | None]) -> float | None:
    """The mean over samples, each as often as it was drawn; None where no sample has a value."""
    total, weight = 0.0, 0
    for sample in samples:
        found = value(sample)
        if found is not None:
            total += sample.candidate.count * found
            weight += sample.candidate.count
    return total / weight if weight else None


class _Paired(NamedTuple):
    """One value a prompt and side."""

    before: list[float]
    after: list[float]

    @property
    def differences(self) -> list[float]:
        return [after - before for before, after in zip(self.before, self.after, strict=True)]


def _paired(
    records: Iterable[EvaluationRecord], value: Callable[[Sample], float | None]
) -> _Paired:
    """The prompts' values where both sides have one."""
    pairs = ((_mean(record.base, value), _mean(record.policy, value)) for record in records)
    both = [(before, after) for before, after in pairs if before is not None and after is not None]
    return _Paired([before for before, _ in both], [after for _, after in both])


def _change(
    records: Iterable[EvaluationRecord], value: Callable[[Sample], float | None], how: Resampling
) -> Change:
    paired = _paired(records, value)
    n = len(paired.before)
    return Change(
        before=sum(paired.before) / n if n else None,
        after=sum(paired.after) / n if n else None,
        change=mean_interval(paired.differences, how),
    )


def _components(records: Sequence[EvaluationRecord], how: Resampling) -> dict[str, Change]:
    names = {
        name
        for record in records
        for sample in (*record.base, *record.policy)
        for name in sample.components
    }
    return {name: _change(records, _component(name), how) for name in sorted(names)}


def _by_kind(scored: Sequence[EvaluationRecord], how: Resampling) -> tuple[KindGain, ...]:
    kinds = sorted({kind for record in scored for kind in record.kinds})
    return tuple(
        _kind_gain(kind, [record for record in scored if kind in record.kinds], how)
        for kind in kinds
    )


def _kind_gain(kind: str, records: Sequence[EvaluationRecord], how: Resampling) -> KindGain:
    reward, tokens = _change(records, _reward, how), _paired(records, _tokens)
    kl = _divergence(records, _kl, estimator("base"), None, how)
    return KindGain(
        kind=kind,
        before=reward.before,
        after=reward.after,
        gain=reward.change,
        tokens_before=sum(tokens.before) / len(records),
        tokens_after=sum(tokens.after) / len(records),
        kl_per_token=Estimate(**kl.model_dump(include=set(Estimate.model_fields))),
    )


def _win_rate(scored: Sequence[EvaluationRecord], how: Resampling) -> WinRate:
    outcomes = [_outcomes(record) for record in scored]
    rate = mean_interval([win + tie / 2 for win, tie in outcomes], how)
    n = len(outcomes)
    win, tie = (sum(column) / n for column in zip(*outcomes, strict=True)) if n else (None, None)
    loss = None if win is None or tie is None else max(0.0, 1 - win - tie)
    return WinRate(**rate.model_dump(), win=win, tie=tie, loss=loss)


def _outcomes(record: EvaluationRecord) -> tuple[float, float]:
    """The shares of wins and ties when a scored sample of each side is drawn at random."""
    win = tie = total = 0
    for after in record.policy:
        for before in record.base:
            if after.reward is None or before.reward is None:
                continue
            weight = after.candidate.count * before.candidate.count
            total += weight
            win += weight * (after.reward > before.reward)
            tie += weight * (after.reward == before.reward)
    return win / total, tie / total


def _length_control(
    scored: Sequence[EvaluationRecord], gain: Estimate, how: Resampling
) -> LengthControl:
    gains = _paired(scored, _reward).differences
    lengths = _paired(scored, _tokens)
    changes = lengths.differences
    same = mean_interval(
        [
            gained
            for gained, change, before in zip(gains, changes, lengths.before, strict=True)
            if abs(change) <= SAME_LENGTH * before
        ],
        how,
    )
    intercept = intercept_interval(changes, gains, how)
    slope, correlation = _line(changes, gains)
    moved = mean_interval(changes, how)
    at_same_length = same if intercept.mean is None else intercept
    return LengthControl(
        same_length=same,
        intercept=intercept,
        slope=slope,
        correlation=correlation,
        only_length=gain.above_zero
        and (moved.above_zero or moved.below_zero)
        and not at_same_length.above_zero,
    )


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float | None, float | None]:
    """Slope and correlation of y on x; each None where it is not defined."""
    from scipy.stats import linregress

    if len(x) < 3 or min(x) == max(x):
        return None, None
    if min(y) == max(y):
        return 0.0, None
    line = linregress(x, y)
    return float(line.slope), float(line.rvalue)


def _divergence(
    records: Sequence[EvaluationRecord],
    value: Callable[[Sample], float | None],
    measure: str,
    no_kl: str | None,
    how: Resampling,
) -> Divergence:
    sums, tokens, answers = [], [], 0
    for record in records:
        measured = [sample for sample in record.policy if value(sample) is not None]
        if measured:
            counts = [sample.candidate.count for sample in measured]
            weights = [n * sample.tokens for n, sample in zip(counts, measured, strict=True)]
            sums.append(sum(w * (value(s) or 0.0) for w, s in zip(weights, measured, strict=True)))
            tokens.append(float(sum(weights)))
            answers += sum(counts)
    per_token = ratio_interval(sums, tokens, how)
    if no_kl is not None:
        per_token = per_token.model_copy(update={"note": no_kl})
    return Divergence(
        **per_token.model_dump(),
        per_answer=sum(sums) / answers if answers else None,
        estimator=measure,
    )


def _abstained(records: Sequence[EvaluationRecord]) -> dict[str, int]:
    sides = {
        "base": [sample for record in records for sample in record.base],
        "policy": [sample for record in records for sample in record.policy],
    }
    return {
        side: sum(sample.candidate.count for sample in samples if sample.reward is None)
        for side, samples in sides.items()
    }


def _leaks(records: Sequence[EvaluationRecord], train_prompts: Iterable[Prompt]) -> Leaks:
    report = leaks(train_prompts, [record.prompt for record in records])
    return Leaks(count=len(report.leaked), share=report.share, prompt_ids=tuple(report.leaked))
