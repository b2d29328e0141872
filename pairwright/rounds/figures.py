"""What rounds came to: one row of figures a round, read from stored files alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from curation.diversity import distinct
from dpo.statistics import Estimate, Resampling, mean_interval
from dpo.summary import Divergence, EvaluationRecord, EvaluationSummary
from pairwright.plan import TRAINED
from pairwright.report.findings import Findings, read_findings
from pairwright.report.verdict import Verdict
from pairwright.rounds.loop import Rounds, RoundState, round_states, stored_rounds
from pairwright.rounds.words import verdict_on, warnings_on
from pairwright.stored import columns
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

    @property
    def gained(self) -> bool:
        """Whether the gain is clearly above zero."""
        return self.gain is not None and self.gain.above_zero


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


def goes_on(rounds: Rounds, figures: RoundFigures) -> bool:
    """Whether another round is to follow this one, as far as its gain decides."""
    return figures.gained or not rounds.config.rounds.until_no_gain


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
    start = found[0].summary if found else None
    beyond = sorted(_beyond(rounds, len(rows)))
    result = RoundsFindings(
        folder=rounds.folder,
        model=rounds.plan(1).model.path if rounds.config.sft is None else "the SFT model",
        most=rounds.most,
        first=None if start is None else _reward(found[0].records, start, after=False),
        first_tokens=None if start is None else start.length.before,
        rounds=rows,
        prompts=0 if start is None else start.prompts,
        confidence_level=rounds.config.evaluate.confidence_level,
        asks_people=rounds.config.label is not None,
        stopped=stopped,
        verdict=verdict_on(rows, start),
        warnings=[],
    )
    return result._replace(warnings=list(warnings_on(result, found, beyond)))


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
