"""What rounds came to: one row of figures a round, read from stored files alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from curation.diversity import distinct
from dpo.statistics import Estimate, Resampling, mean_interval
from dpo.summary import Divergence, EvaluationRecord, EvaluationSummary
from dpo.watch import LARGE_KL
from pairwright.findings import Findings, read_findings
from pairwright.people import people_doubts
from pairwright.plan import TRAINED
from pairwright.rounds import Rounds, RoundState, round_states, stored_rounds
from pairwright.stored import columns
from pairwright.verdict import Verdict
from pairwright.written import number as written
from pairwright.written import signed
from schemas.records import Record
from schemas.run_folder import RunFolder, Stage

NGRAM = 2


class Agreed(Record):
    """Krippendorff's alpha (nominal) over a round's answers."""

    value: float | None
    low: float | None
    high: float | None


class RoundFigures(Record):
    """A round and what it measured; None where it has not, or where there is nothing to measure."""

    number: int
    state: str
    why: str
    policy: str
    """Where the trained policy lies in the folder of rounds."""
    reward: Estimate | None = None
    """Of the policy that the round trained, on the held-out prompts."""
    gain: Estimate | None = None
    """Over the round before, prompt by prompt; in round 1 over the first model."""
    since_first: Estimate | None = None
    """The same over the first model."""
    kl_to_before: Divergence | None = None
    kl_to_first: Divergence | None = None
    tokens: float | None = None
    """Mean length of the policy's answers."""
    truncated: float | None = None
    """Share of the policy's answers cut off at the token limit."""
    distinct_2: float | None = None
    """Distinct pairs of tokens over all, among a prompt's samples; the mean over prompts."""
    distinct_texts: float | None = None
    """Candidates, which are distinct, over samples."""
    ties: float | None = None
    """Share of the prompts whose candidates all rank alike, so that they give no pair."""
    agreement: Agreed | None = None
    """None where nobody was asked."""
    labels: int | None = None
    """Answers of people that no earlier round had."""
    simulated: bool = False
    """Whether scripts gave those answers, all of them."""
    pairs: int | None = None
    quarantined: int | None = None
    seconds: float = 0.0
    """Of the complete stages; of one that was stopped and gone on with, since it went on."""


class RoundsFindings(NamedTuple):
    folder: Path
    model: str
    """The model that the first round began with."""
    most: int
    """Rounds at most."""
    first: Estimate | None
    """Reward of the first model."""
    first_tokens: float | None
    """Mean length of the first model's answers."""
    rounds: list[RoundFigures]
    prompts: int
    """Held-out prompts."""
    confidence_level: float
    asks_people: bool
    stopped: bool
    """Whether the rounds ended before the last for want of a gain."""
    verdict: Verdict
    warnings: list[str]

    @property
    def measured(self) -> list[RoundFigures]:
        return [row for row in self.rounds if row.gain is not None and row.gain.mean is not None]


def gained(figures: RoundFigures) -> bool:
    return figures.gain is not None and figures.gain.above_zero


def goes_on(rounds: Rounds, figures: RoundFigures) -> bool:
    """Whether another round is to follow this one, as far as its gain decides."""
    return gained(figures) or not rounds.config.rounds.until_no_gain


def read_rounds(folder: Path) -> RoundsFindings:
    """What the rounds in the folder came to.

    Raises:
        ValueError: the folder keeps no config, or a file of a round is damaged.
    """
    return find_rounds(stored_rounds(folder))


def find_rounds(rounds: Rounds, *, last: int | None = None) -> RoundsFindings:
    """What the rounds that are on disk came to, up to `last` or else what the config asks for."""
    rows: list[RoundFigures] = []
    found: list[Findings] = []
    seen: set[str] = set()
    stopped = False
    for state in round_states(rounds):
        if state.state == "missing" or (last is not None and state.number > last):
            break
        findings = read_findings(rounds.run(state.number))
        first = found[0].records if found else findings.records
        rows.append(_figures(state, findings, first, seen))
        found.append(findings)
        if state.state == "complete" and not goes_on(rounds, rows[-1]):
            stopped = state.number < rounds.most
            break
    summaries = [item.summary for item in found if item.summary is not None]
    beyond = sorted(_beyond(rounds, len(rows)))
    result = RoundsFindings(
        folder=rounds.folder,
        model=rounds.plan(1).model.path if rounds.config.sft is None else "the SFT model",
        most=rounds.most,
        first=_reward(found[0].records, summaries[0], after=False) if summaries else None,
        first_tokens=summaries[0].length.before if summaries else None,
        rounds=rows,
        prompts=summaries[0].prompts if summaries else 0,
        confidence_level=summaries[0].confidence_level if summaries else 0.95,
        asks_people=rounds.config.label is not None,
        stopped=stopped,
        verdict=_verdict(rows, summaries),
        warnings=[],
    )
    return result._replace(warnings=list(_warnings(result, found, beyond)))


def _figures(
    state: RoundState, found: Findings, first: Sequence[EvaluationRecord], seen: set[str]
) -> RoundFigures:
    """`first` are the records of round 1; `seen` are answers of people that earlier rounds had."""
    run = RunFolder(found.run)
    figures = {
        "number": state.number,
        "state": state.state,
        "why": state.why,
        "policy": f"{found.run.name}/dpo/{TRAINED['dpo']}",
        "pairs": found.funnel.pairs,
        "quarantined": found.funnel.quarantined,
        "seconds": round(sum(one.seconds for one in found.manifests.values()), 1),
        **_candidates(run, found),
        **_people(run, found, seen),
    }
    summary = found.summary
    if summary is not None:
        figures |= {
            "reward": _reward(found.records, summary, after=True),
            "gain": summary.reward_gain,
            "since_first": _since(first, found.records, summary),
            "kl_to_before": summary.kl_per_token,
            "kl_to_first": summary.kl_to_origin or summary.kl_per_token,
            "tokens": summary.length.after,
            "truncated": summary.truncated.after,
        }
    return RoundFigures.model_validate(figures)


def _candidates(run: RunFolder, found: Findings) -> dict[str, float | None]:
    """How much the round's candidates differ, from each other and in rank."""
    sampled, pair = found.manifests.get("generate"), found.manifests.get("pair")
    figures: dict[str, float | None] = {}
    if sampled is not None and sampled.state == "complete":
        figures["distinct_texts"] = _over(sampled.counts["candidates"], sampled.counts["samples"])
        each = [distinct(answers, NGRAM) for answers in _answers(run.stage("generate"))]
        known = [value for value in each if value is not None]
        figures["distinct_2"] = _over(sum(known), len(known))
    if pair is not None and pair.state == "complete":
        figures["ties"] = _over(pair.reasons.get("TIE", 0), pair.counts["prompts"])
    return figures


def _answers(stage: Stage) -> Iterator[list[list[int]]]:
    """The tokens of every sample of a prompt; a prompt's samples are all in one file."""
    for file in stage.files():
        groups: dict[str, list[list[int]]] = {}
        for row in pq.read_table(file, columns=["prompt_id", "count", "completion"]).to_pylist():
            tokens = row["completion"]["token_ids"] or []
            groups.setdefault(row["prompt_id"], []).extend([tokens] * row["count"])
        yield from groups.values()


def _people(run: RunFolder, found: Findings, seen: set[str]) -> dict[str, object]:
    people = found.people
    if people is None:
        return {}
    stage = run.stage("label")
    given = {
        key
        for kind in ("part", "gold")
        if stage.files(kind)
        for key in columns(stage, ["id"], kind)["id"].to_pylist()
    }
    new = len(given - seen)
    seen |= given
    agreement = people.agreement.get(people.question)
    alpha = None if agreement is None else agreement.alpha_nominal
    return {
        "labels": new,
        "simulated": people.all_simulated,
        "agreement": None
        if alpha is None
        else Agreed(value=alpha.value, low=alpha.low, high=alpha.high),
    }


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _reward(
    records: Sequence[EvaluationRecord], summary: EvaluationSummary, *, after: bool
) -> Estimate:
    """The mean reward of one side over prompts, with the interval that the evaluation uses."""
    values = [item.reward_after if after else item.reward_before for item in records]
    return mean_interval([value for value in values if value is not None], _resampling(summary))


def _since(
    first: Sequence[EvaluationRecord],
    records: Sequence[EvaluationRecord],
    summary: EvaluationSummary,
) -> Estimate:
    before = {record.prompt.id: record.reward_before for record in first}
    pairs = ((before.get(record.prompt.id), record.reward_after) for record in records)
    gains = [now - then for then, now in pairs if then is not None and now is not None]
    return mean_interval(gains, _resampling(summary))


def _resampling(summary: EvaluationSummary) -> Resampling:
    return Resampling(summary.confidence_level, summary.resamples, summary.seed)


def _beyond(rounds: Rounds, taken: int) -> Iterator[int]:
    """Rounds on disk that are no part of what the config asks for."""
    for folder in rounds.folder.glob("round-*"):
        end = folder.name.removeprefix("round-")
        if end.isdigit() and int(end) > taken and RunFolder(folder).stages():
            yield int(end)


def _warnings(
    result: RoundsFindings, found: Sequence[Findings], beyond: Sequence[int]
) -> Iterator[str]:
    for row in result.rounds:
        if row.state != "complete":
            yield f"Round {row.number} is {row.state}: {row.why}."
    if beyond:
        why = "the rounds ended before" if result.stopped else f"rounds.count is {result.most}"
        are = "is on disk and no part" if len(beyond) == 1 else "are on disk and no part"
        yield f"{_named(beyond)} {are} of this report, as {why}."
    far = [row for row in result.rounds[1:] if row.kl_to_first and row.kl_to_first.mean]
    for row in far[-1:]:
        kl = row.kl_to_first.mean if row.kl_to_first else None
        if kl is not None and kl > LARGE_KL:
            yield (
                f"After round {row.number} the policy is far from the first model: KL {kl:.2f} "
                "nats a token. Read the samples for repetition and nonsense."
            )
    remarks: dict[str, list[int]] = {}
    for row, item in zip(result.rounds, found, strict=True):
        # They name annotators, and who is forgotten is taken out of a round's own report alone.
        about_people = set() if item.people is None else set(people_doubts(item.people))
        for text in item.warnings:
            if text not in about_people:
                remarks.setdefault(text, []).append(row.number)
    yield from (f"{_named(numbers)}: {text}" for text, numbers in remarks.items())


def _verdict(rows: Sequence[RoundFigures], summaries: Sequence[EvaluationSummary]) -> Verdict:
    """What the gains say, in words that say no more than their intervals do."""
    measured = [row for row in rows if row.gain is not None and row.gain.mean is not None]
    if not measured:
        return Verdict(
            outcome="not_measured",
            headline="Not measured yet.",
            detail="No round has been compared with the one before.",
        )
    total = measured[-1].since_first or Estimate(mean=None, n=0)
    outcomes: Mapping[bool, str] = {total.above_zero: "better", total.below_zero: "worse"}
    return Verdict.model_validate(
        {
            "outcome": outcomes.get(True, "unclear"),
            "headline": _headline(measured),
            "detail": " ".join(_detail(measured, summaries[0])),
        }
    )


def _headline(rows: Sequence[RoundFigures]) -> str:
    up = [row.number for row in rows if gained(row)]
    down = [row.number for row in rows if row.gain is not None and row.gain.below_zero]
    rest = [row.number for row in rows if row.number not in (*up, *down)]
    if len(rows) > 1 and len(up) == len(rows):
        return f"All {len(rows)} rounds gained."
    if len(rows) > 1 and len(rest) == len(rows):
        return f"None of {len(rows)} rounds clearly gained."
    parts = [
        f"{_named(numbers)} {said}"
        for numbers, said in (
            (up, "gained"),
            (rest, "did not clearly gain"),
            (down, "got worse"),
        )
        if numbers
    ]
    text = ", ".join(parts)
    return f"{text[0]}{text[1:].replace(', Round', ', round')}."


def _detail(rows: Sequence[RoundFigures], first: EvaluationSummary) -> Iterator[str]:
    last = rows[-1]
    rewards = [first.reward_before, *(row.reward.mean for row in rows if row.reward)]
    total = last.since_first or Estimate(mean=None, n=0)
    path = " → ".join(written(value) for value in rewards)
    level = f"{first.confidence_level:.0%} interval"
    yield (
        f"Mean reward on {total.n} held-out prompts went {path}: {signed(total.mean)} since the "
        f"first model{_interval(total, level)}."
    )
    gain = last.gain or total
    what = f"The last gain, {signed(gain.mean)}{_interval(gain)},"
    if gain.above_zero:
        yield f"{what} is above zero, so another round may gain again."
    elif gain.below_zero:
        yield f"{what} is below zero: the last round did harm."
    else:
        yield f"{what} may be chance alone, so another round of the same kind promises little."
    if up := [row for row in rows if gained(row)]:
        yield f"The last policy with a clear gain is {up[-1].policy}."


def _interval(estimate: Estimate, what: str = "") -> str:
    if estimate.low is None or estimate.high is None:
        return " (no interval)"
    return f" ({what} {signed(estimate.low)} to {signed(estimate.high)})".replace("( ", "(")


def _named(numbers: Sequence[int]) -> str:
    """`Round 2`, `Rounds 1 and 3`."""
    *most, last = map(str, numbers)
    return f"Rounds {', '.join(most)} and {last}" if most else f"Round {last}"
