"""What people said in a run, read from its stored files: who, how well they agree, what counted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc
from pydantic import ValidationError

from curation.agreement import Agreement
from curation.annotator_warnings import AnnotatorRow
from curation.gold import MethodAccuracy
from curation.proportions import Proportion, proportion
from pairwright.stored import columns
from pairwright.written import number, share
from schemas.arrow import first_error
from schemas.records import Judgement
from schemas.run_folder import Manifest, RunFolder

if TYPE_CHECKING:
    from curation.posteriors import Pair

LOW_ALPHA = 0.4
"""Krippendorff's alpha below which a reader is warned. He himself asks for 0.667; preferences are
seldom that clear, and many votes still add up."""
LOW_GOLD = 0.75
"""Share of gold questions that a panel should at least answer right."""
_NAMED = 3
"""How many suspects are warned of by name."""


class Unanimity(NamedTuple):
    """Pairs that two or more people answered, by how far they were of one mind."""

    all_agree: int
    most_agree: int
    no_majority: int

    @property
    def pairs(self) -> int:
        return sum(self)


class People(NamedTuple):
    """The stage `label`, and what the stages after it made of the votes."""

    dataset: str
    question: str
    """The one that rankings are concluded from."""
    method: str | None
    """How votes became rankings; None where they have not, or where scores rank."""
    counts: Mapping[str, int]
    tasks: Mapping[str, int]
    """Records by purpose."""
    shown_first: Mapping[str, int]
    """How often each candidate of a record, in the order they were sampled, was the first shown."""
    not_asked: Mapping[str, int]
    """Candidates and pairs that were put before nobody, by reason."""
    not_counted: Mapping[str, int]
    excluded: Mapping[str, str]
    """Annotators whose answers do not count, with the reason."""
    simulated: frozenset[str]
    """Annotators that are scripts."""
    agreement: Mapping[str, Agreement]
    """By question."""
    annotators: tuple[AnnotatorRow, ...]
    methods: tuple[MethodAccuracy, ...]
    """Against gold, the most accurate first."""
    unanimity: Unanimity
    confidences: tuple[float, ...]
    """`p_chosen` of every pair that has one; of those proposed where none passed the gate yet."""
    late_exclusions: int
    """Answers that rankings leave out although the figures about annotators still count them."""

    @property
    def gold(self) -> Proportion:
        """Gold questions answered right by all whose answers count."""
        counted = [row.gold for row in self.annotators if not row.excluded]
        return proportion(sum(one.count for one in counted), sum(one.of for one in counted))

    @property
    def all_simulated(self) -> bool:
        return bool(self.annotators) and len(self.simulated) == len(self.annotators)

    def called(self, name: str) -> str:
        """The annotator's name; a script is called one."""
        return f"{name} (simulated)" if name in self.simulated else name

    def data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            **self._asdict(),
            "simulated": sorted(self.simulated),
            "agreement": {key: one.model_dump(mode="json") for key, one in self.agreement.items()},
            "annotators": [row.model_dump(mode="json") for row in self.annotators],
            "methods": [row._asdict() for row in self.methods],
            "unanimity": self.unanimity._asdict(),
            "confidences": list(self.confidences),
            "gold": self.gold.model_dump(mode="json"),
        }


def read_people(run: RunFolder, manifests: Mapping[str, Manifest]) -> People | None:
    """What people said; None where the run has no complete stage `label`.

    Raises:
        ValueError: what the stage noted is not what this version reads.
    """
    label = _complete(manifests, "label")
    if label is None:
        return None
    aggregate = _complete(manifests, "aggregate")
    by_votes = aggregate is not None and ranks_by_votes(aggregate)
    facts = label.facts if isinstance(label.facts, dict) else {}
    try:
        rows = tuple(AnnotatorRow.model_validate(row) for row in facts["annotators"])
        agreement = {key: Agreement.model_validate(one) for key, one in facts["agreement"].items()}
        methods = tuple(MethodAccuracy(**row) for row in facts["methods"])
    except (ValidationError, KeyError, TypeError) as error:
        why = first_error(error) if isinstance(error, ValidationError) else repr(error)
        raise ValueError(
            f"stage 'label' of run '{run.path}' holds no account of the annotators that this "
            f"version reads ({why}); run label again"
        ) from None
    decided = aggregate if by_votes else None
    question = "overall" if decided is None else str(decided.config.get("question", "overall"))
    excluded = facts.get("excluded", {})
    left_out = _left_out(decided)
    return People(
        dataset=str(facts.get("dataset", "")),
        question=question,
        method=None if decided is None else str(decided.config.get("method", "")) or None,
        counts=label.counts,
        tasks=facts.get("tasks", {}),
        shown_first=facts.get("shown_first", {}),
        not_asked=facts.get("not_asked", {}),
        not_counted=left_out or facts.get("not_counted", {}),
        excluded=excluded,
        simulated=simulated_among((row.annotator for row in rows), facts),
        agreement=agreement,
        annotators=rows,
        methods=methods,
        unanimity=_unanimity(run, question, excluded),
        confidences=_confidences(run, manifests) if by_votes else (),
        late_exclusions=max(
            0, left_out.get("EXCLUDED", 0) - facts.get("not_counted", {}).get("EXCLUDED", 0)
        ),
    )


def simulated_among(names: Iterable[str], facts: Mapping[str, Any]) -> frozenset[str]:
    """The scripts among annotators, also those that the config no longer declares."""
    from curation.argilla.simulated import PREFIX

    declared = facts.get("simulated", ())
    return frozenset(name for name in names if name in declared or name.startswith(PREFIX))


def ranks_by_votes(aggregate: Manifest) -> bool:
    """Whether the stage concluded from people's votes and not from a machine's scores."""
    return "counted" in aggregate.counts


def prompts_answered(run: RunFolder, manifests: Mapping[str, Manifest]) -> int | None:
    """How many prompts have an answer to the question that rankings are concluded from."""
    if _complete(manifests, "label") is None:
        return None
    aggregate = manifests.get("aggregate")
    config = aggregate.config if aggregate and isinstance(aggregate.config, dict) else {}
    table = columns(run.stage("label"), ["prompt_id", "question"])
    asked = table.filter(pc.equal(table["question"], config.get("question", "overall")))
    return int(pc.count_distinct(asked["prompt_id"]).as_py())


def people_doubts(people: People) -> Iterator[str]:
    """What to know before trusting what people said, gravest first."""
    if people.all_simulated:
        yield (
            "The annotators of this run are simulated: scripts with declared accuracies, not "
            "people. What they say shows that the road works, not what anybody prefers."
        )
    elif people.simulated:
        yield (
            f"{len(people.simulated)} of {len(people.annotators)} annotators are simulated "
            f"(scripts with declared accuracies): {', '.join(sorted(people.simulated))}."
        )
    yield from _suspects(people)
    yield from _weak_agreement(people)
    gold = people.gold
    if gold.high is not None and gold.high < LOW_GOLD:
        yield (
            f"Annotators answered only {gold.count} of {gold.of} gold questions right "
            f"({share(gold.share)}, {share(gold.low)} to {share(gold.high)}): see that the "
            "guidelines say what is better, and that gold is right."
        )
    yield from _worse_method(people)
    if people.late_exclusions:
        answers = f"{people.late_exclusions:,} answer{'s' * (people.late_exclusions > 1)}"
        yield (
            f"{answers} of annotators excluded later do not count in the rankings, but the "
            "figures about annotators still hold them; run label again."
        )
    assisted = people.not_counted.get("ASSISTED", 0)
    if assisted:
        yield (
            f"{assisted:,} answers were given with a machine's ranking in view; they do not count."
        )


def worse_than(people: People) -> MethodAccuracy | None:
    """A method whose accuracy on gold lies wholly above that of the method used, if any does."""
    used = next((row for row in people.methods if row.method == people.method), None)
    if used is None or used.high is None:
        return None
    best = max(people.methods, key=lambda row: row.low or 0.0)
    return best if (best.low or 0.0) > used.high else None


def _worse_method(people: People) -> Iterator[str]:
    better = worse_than(people)
    if better is None:
        return
    used = next(row for row in people.methods if row.method == people.method)
    yield (
        f"Method '{used.method}' is right on {share(used.accuracy)} of {used.pairs} gold pairs, "
        f"'{better.method}' on {share(better.accuracy)}; consider aggregate.method={better.method}."
    )


def _suspects(people: People) -> Iterator[str]:
    suspects = [row for row in people.annotators if row.suspect and not row.excluded]
    for row in suspects[:_NAMED]:
        yield (
            f"Annotator {people.called(row.annotator)} does not answer like one who reads: "
            f"{row.warnings[0]}. To leave the answers out: pairwright label exclude."
        )
    more = [people.called(row.annotator) for row in suspects[_NAMED:]]
    if more:
        yield f"Suspect likewise: {', '.join(more)}."


def _weak_agreement(people: People) -> Iterator[str]:
    found = people.agreement.get(people.question)
    if found is None:
        return
    alpha = found.alpha_nominal
    if alpha.value is None:
        yield from (f"{text[0].upper()}{text[1:]}." for text in found.warnings[:1])
    elif alpha.value < LOW_ALPHA:
        interval = ""
        if alpha.low is not None and alpha.high is not None:
            interval = f" ({number(alpha.low)} to {number(alpha.high)})"
        yield (
            f"Annotators agree little: Krippendorff's alpha is {number(alpha.value)}{interval}, "
            "where 1 is perfect and 0 is chance."
        )


def _complete(manifests: Mapping[str, Manifest], stage: str) -> Manifest | None:
    manifest = manifests.get(stage)
    return manifest if manifest is not None and manifest.state == "complete" else None


def _left_out(aggregate: Manifest | None) -> dict[str, int]:
    facts = aggregate.facts if aggregate is not None else None
    return facts.get("not_counted", {}) if isinstance(facts, dict) else {}


def _unanimity(run: RunFolder, question: str, excluded: Mapping[str, str]) -> Unanimity:
    from curation.votes import counted_judgements, votes_of
    from curation.voting import one_vote_each

    counted = counted_judgements(
        (item for item in run.stage("label").read(Judgement) if item.purpose == "label"),
        question=question,
        excluded=excluded,
    )
    by_pair: dict[Pair, Counter[str]] = defaultdict(Counter)
    for vote in one_vote_each(votes_of(counted.kept)):
        by_pair[vote.pair][vote.winner] += 1
    minds = Counter(
        "all" if len(said) == 1 else "most" if 2 * max(said.values()) > said.total() else "none"
        for said in by_pair.values()
        if said.total() > 1
    )
    return Unanimity(minds["all"], minds["most"], minds["none"])


def _confidences(run: RunFolder, manifests: Mapping[str, Manifest]) -> tuple[float, ...]:
    for stage in ("validate", "pair"):
        if _complete(manifests, stage) is not None and run.stage(stage).files():
            found = columns(run.stage(stage), ["p_chosen"])["p_chosen"].to_pylist()
            return tuple(value for value in found if value is not None)
    return ()
