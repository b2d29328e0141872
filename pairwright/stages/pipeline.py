"""The stages from candidates to pairs, in the order data takes.

Each one begins with its config and the digests of what it reads, makes the parts that are still
missing, commits each whole, and closes with counts drawn from the files, so that a resumed stage
counts what an uninterrupted one does. Part k of generate, rank, aggregate and pair has the same
prompts.
"""

import contextlib
import fcntl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from pairwright.plan import Plan
from pairwright.plugins import build
from pairwright.progress import Progress, Task
from pairwright.stages.asked import askers_among, asking, forget_answers, tell_abstained
from pairwright.stages.judging import UnrankedPrompt, of_comparisons, of_scores
from pairwright.stored import StoredPrompts, by_prompt, columns, row_count
from schemas.arrow import from_table, to_table
from schemas.interfaces import Ranker
from schemas.records import (
    Candidate,
    Judgement,
    PairProposal,
    PreferencePair,
    Ranking,
    Record,
)
from schemas.run_folder import Manifest, RunFolder, Stage, StageWriter

if TYPE_CHECKING:
    from curation.pairs import PromptPairs

R = TypeVar("R", bound=BaseModel)


class Road(NamedTuple):
    """What every stage works with."""

    plan: Plan
    progress: Progress
    shard: str | None = None
    """`k/n`: this process makes only those parts of generate."""

    @property
    def run(self) -> RunFolder:
        return self.plan.run

    def begin(self, name: str, *, parts: int, facts: object = None) -> StageWriter:
        return self.run.stage(name).begin(
            config=self.plan.settings(name), inputs=self.plan.inputs(name), parts=parts, facts=facts
        )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A scope that shards of one run enter one after the other."""
        with open(self.run.path / ".lock-alone", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class UnusedCandidate(Record):
    """A candidate that is a side of no pair."""

    candidate_id: str
    reason: str


def make_judgements(road: Road) -> Manifest:
    """Judgements of the candidates by the configured rewards, or by the judge."""
    from curation.rankers import RewardRanker
    from curation.rewards.weighted import build_reward

    rank = road.plan.config.rank
    if rank is None:
        raise ValueError("the config has no section 'rank'; expected rank.rewards or rank.judge")
    source, stage = road.run.stage("generate"), road.run.stage("rank")
    prompts = StoredPrompts(road.run.stage("prompts"))
    ranker: Ranker
    judging: dict[str, object]
    if rank.judge is not None:
        ranker = build(rank.judge.use, rank.judge.args, where="rank.judge")
        judging = {str(rank.judge.name or getattr(ranker, "name", rank.judge.use)): ranker}
    else:
        reward = build_reward(rank.rewards, rank.abstain)
        ranker = RewardRanker(reward)
        judging = {part.name: part.reward for part in reward.rewards}
    writer = road.begin("rank", parts=len(source.files()))
    with (
        asking(askers_among(judging.values()), stage) as meter,
        road.progress.task("rank", "candidates", row_count(source)) as task,
    ):
        for index, candidates in _missing_parts(source, Candidate, writer, task):
            grouped = by_prompt(candidates)
            asked = prompts.of(grouped)
            judgements = list(ranker.rank((asked[key], group) for key, group in grouped.items()))
            writer.commit(index, to_table(judgements, Judgement), **meter.table())
    tell_abstained(road.progress, "rank", judging.items())
    forget_answers(stage)
    found = of_scores if rank.judge is None else of_comparisons
    return writer.finish(**found(stage, row_count(source)))


def make_rankings(road: Road) -> Manifest:
    """Rankings concluded from the judgements: a machine's, or people's votes."""
    if not road.plan.by_machine:
        from pairwright.stages.labelling import rankings_by_people

        return rankings_by_people(road)
    rank, method = road.plan.config.rank, road.plan.method
    judged = rank is not None and rank.judge is not None
    expected = "bradley-terry" if judged else "score"
    if method != expected:
        what = "a judge's comparisons are" if judged else "scores are"
        raise ValueError(
            f"aggregate.method is '{method}', but {what} to be ranked; expected {expected}, or "
            "leave it out"
        )
    return _rankings_by_judge(road) if judged else _rankings_by_machine(road)


def _rankings_by_judge(road: Road) -> Manifest:
    from curation.judged import rankings_from_judges

    source, stage = road.run.stage("rank"), road.run.stage("aggregate")
    question = road.plan.config.aggregate.question
    writer = road.begin("aggregate", parts=len(source.files()))
    with road.progress.task("aggregate", "judgements", row_count(source)) as task:
        for index, judgements in _missing_parts(source, Judgement, writer, task):
            found = list(rankings_from_judges(judgements, question=question))
            unranked = [
                UnrankedPrompt(prompt_id=item.prompt_id, reason=item.reason)
                for item in found
                if not isinstance(item, Ranking)
            ]
            writer.commit(
                index,
                to_table((item for item in found if isinstance(item, Ranking)), Ranking),
                unranked=to_table(unranked, UnrankedPrompt),
            )
    reasons = Counter(columns(stage, ["reason"], "unranked")["reason"].to_pylist())
    counts = {
        "judgements": row_count(source),
        "rankings": row_count(stage),
        "unranked": reasons.total(),
    }
    return writer.finish(counts=counts, reasons=reasons)


def _rankings_by_machine(road: Road) -> Manifest:
    from curation.aggregation import rankings_from_scores

    if road.plan.config.rank is None:
        raise ValueError("aggregate.method is 'score' but the config has no section 'rank'")
    source, stage = road.run.stage("rank"), road.run.stage("aggregate")
    question = road.plan.config.aggregate.question
    writer = road.begin("aggregate", parts=len(source.files()))
    with road.progress.task("aggregate", "judgements", row_count(source)) as task:
        for index, judgements in _missing_parts(source, Judgement, writer, task):
            rankings = rankings_from_scores(judgements, question=question)
            writer.commit(index, to_table(rankings, Ranking))
    return writer.finish(counts={"judgements": row_count(source), "rankings": row_count(stage)})


def make_proposals(road: Road) -> Manifest:
    """Pairs as the strategy or the edit proposes them; each prompt without one has a reason."""
    from curation.pairs import UnpairedPrompt

    source, stage = road.run.stage("generate"), road.run.stage("pair")
    prompts = StoredPrompts(road.run.stage("prompts"))
    writer = road.begin("pair", parts=len(source.files()))
    with road.progress.task("pair", "candidates", row_count(source)) as task:
        for index, candidates in _missing_parts(source, Candidate, writer, task):
            found = list(_propose(road, index, by_prompt(candidates), prompts))
            unpaired = [
                UnpairedPrompt(prompt_id=item.prompt_id, reason=item.reason)
                for item in found
                if item.reason is not None
            ]
            unused = [
                UnusedCandidate(candidate_id=key, reason=reason)
                for item in found
                for key, reason in item.unused.items()
            ]
            writer.commit(
                index,
                to_table((pair for item in found for pair in item.proposals), PairProposal),
                unpaired=to_table(unpaired, UnpairedPrompt),
                unused=to_table(unused, UnusedCandidate),
            )
    unpaired_reasons = Counter(columns(stage, ["reason"], "unpaired")["reason"].to_pylist())
    unused_reasons = Counter(columns(stage, ["reason"], "unused")["reason"].to_pylist())
    candidate_count = row_count(source)
    counts = {
        "prompts": pc.count_distinct(columns(source, ["prompt_id"])["prompt_id"]).as_py(),
        "unpaired_prompts": unpaired_reasons.total(),
        "candidates": candidate_count,
        "used_candidates": candidate_count - unused_reasons.total(),
        "unused_candidates": unused_reasons.total(),
        "proposals": row_count(stage),
    }
    facts = {"unused": dict(sorted(unused_reasons.items()))}
    return writer.finish(counts=counts, reasons=unpaired_reasons, facts=facts)


def make_pairs(road: Road) -> Manifest:
    """Preference pairs that passed the gate, with their split; the rest in quarantine."""
    from curation.models import load_chat
    from curation.validation.gate import Gate
    from curation.validation.row import Quarantined, rows_from_proposals

    config, source = road.plan.config, road.run.stage("pair")
    chat = load_chat(road.plan.model) if config.gate.token_checks else None
    writer = road.begin("validate", parts=1)
    with road.progress.task("validate", "pairs", row_count(source)) as task:
        proposals = _counted(source.read(PairProposal), task)
        result = Gate(config.gate, seed=config.seed, chat=chat).run(rows_from_proposals(proposals))
    for warning in result.warnings:
        road.progress.line(f"validate: {warning}")
    writer.commit(
        0,
        to_table(result.pairs, PreferencePair),
        quarantine=to_table(result.quarantined, Quarantined),
    )
    return writer.finish(
        counts=result.counts,
        reasons=result.reasons,
        facts={"warnings": list(result.warnings), "refusal": result.refusal},
    )


def _propose(
    road: Road, index: int, grouped: Mapping[str, list[Candidate]], prompts: StoredPrompts
) -> Iterator["PromptPairs"]:
    """What each prompt of one part gives."""
    from curation.pairs import propose_edits, propose_pairs

    config = road.plan.config.pair
    asked = prompts.of(grouped)
    if config.edit:
        edit = build(config.edit, config.edit_args, where="pair.edit")
        answers = ((asked[key], group) for key, group in grouped.items())
        return propose_edits(answers, edit, config.edit.rpartition(":")[2])
    strategy = build(config.strategy, config.args, where="pair.strategy")
    rankings = from_table(pq.read_table(road.run.stage("aggregate").files()[index]), Ranking)
    ranked = {ranking.prompt_id: ranking for ranking in rankings}
    items = ((asked[key], group, ranked.get(key)) for key, group in grouped.items())
    return propose_pairs(items, strategy, seed=road.plan.config.seed)


def _missing_parts(
    source: Stage, record: type[R], writer: StageWriter, task: Task
) -> Iterator[tuple[int, list[R]]]:
    """The number and the input records of each part that is still to be made."""
    missing = set(writer.missing())
    for index, file in enumerate(source.files()):
        if index in missing:
            records = from_table(pq.read_table(file), record)
            yield index, records
            task.advance(len(records))
        else:
            task.advance(pq.read_metadata(file).num_rows)


def _counted(records: Iterable[R], task: Task) -> Iterator[R]:
    for record in records:
        yield record
        task.advance(1)
