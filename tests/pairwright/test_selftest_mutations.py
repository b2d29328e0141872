"""Each comparison, un-shuffle and column mapping of the road turned round, one at a time.

The self-test is worth what it notices: every mutation in the list must break one of its laws. A
mutated run starts at the step that the mutation is in, on a copy of a road on which all laws hold.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, NamedTuple

import pytest

from pairwright.progress import Silent
from pairwright.selftest.examine import own_server
from pairwright.selftest.laws import Law
from pairwright.selftest.planted import Planted
from pairwright.selftest.planted_prompts import planted_pairs, planted_rankings
from pairwright.selftest.planted_run import one_thread
from pairwright.selftest.scores import examine_scores
from pairwright.selftest.votes import STEPS, Step, VotesRoad
from schemas.records import Judgement, PairProposal, Ranking

Kind = Literal["pairwise", "ranking"]

PLANTED: dict[Kind, list[Planted]] = {
    "pairwise": [*planted_pairs()[:14], *planted_pairs()[-2:]],
    "ranking": [*planted_rankings()[:5], *planted_rankings()[7:15]],
}
LIVE: dict[Kind, list[Planted]] = {
    "pairwise": [*planted_pairs()[:7], *planted_pairs()[9:11], *planted_pairs()[24:25]],
    "ranking": [*planted_rankings()[:5], *planted_rankings()[7:8]],
}
"""What is asked again for a mutation of the asking itself."""


class Mutation(NamedTuple):
    """What is turned round, and where the road must be gone on from to meet it."""

    name: str
    step: Step
    target: str
    """`module:name`, or `module:Class.name`."""
    turned: Callable[[Any], Any]
    """From the original to the mutant."""
    kind: Kind = "pairwise"


def _swapped_sides(pair: PairProposal, **others: Any) -> Any:
    fields = {name: getattr(pair, name) for name in type(pair).model_fields}
    sides = {"chosen": pair.rejected, "rejected": pair.chosen}
    return type(pair)(**{**fields, **sides, **others, "id": ""})


def _swapped_columns(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def _other_texts(fields: dict[str, Any]) -> dict[str, Any]:
    shown = fields["conversation"]
    texts = [answer["text"] for answer in reversed(shown["answers"])]
    answers = [
        {"title": answer["title"], "text": text}
        for answer, text in zip(shown["answers"], texts, strict=True)
    ]
    return {"conversation": {**shown, "answers": answers}}


def _other_titles(fields: dict[str, Any]) -> dict[str, Any]:
    shown = fields["conversation"]
    titles = [answer["title"] for answer in reversed(shown["answers"])]
    answers = [
        {"title": title, "text": answer["text"]}
        for answer, title in zip(shown["answers"], titles, strict=True)
    ]
    return {"conversation": {**shown, "answers": answers}}


def _other_options(question: dict[str, Any]) -> dict[str, Any]:
    settings = question["settings"]
    if settings["type"] != "ranking":
        return question
    texts = [option["text"] for option in reversed(settings["options"])]
    options = [
        {**option, "text": text} for option, text in zip(settings["options"], texts, strict=True)
    ]
    return {**question, "settings": {**settings, "options": options}}


def _other_way(ranks: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(ranks) + 1 - rank for rank in ranks)


def _with_field(judgements: Any, **changed: Callable[[Judgement], Any]) -> list[Judgement]:
    return [
        item.model_copy(update={name: change(item) for name, change in changed.items()})
        for item in judgements
    ]


def _transposed(ranking: Ranking) -> Ranking:
    assert ranking.probabilities is not None
    fields = ranking.model_dump(exclude={"id"})
    return Ranking(**{**fields, "probabilities": tuple(zip(*ranking.probabilities, strict=True))})


_OTHER = {"left": "right", "right": "left", "tie": "tie"}

IN_PUSH = [
    Mutation(
        "the titles A and B stand over each other's answers",
        "ask",
        "curation.argilla.push:record_fields",
        lambda original: lambda task: _other_titles(original(task)),
    ),
    Mutation(
        "the titles of a ranking stand over other answers",
        "ask",
        "curation.argilla.push:record_fields",
        lambda original: lambda task: _other_titles(original(task)),
        "ranking",
    ),
    Mutation(
        "the answers are sent in another order than is stored",
        "ask",
        "curation.argilla.push:record_fields",
        lambda original: lambda task: _other_texts(original(task)),
    ),
    Mutation(
        "the buttons A and B mean each other",
        "ask",
        "curation.argilla.settings:CHOICES",
        lambda original: {**original, "a": original["b"], "b": original["a"]},
    ),
    Mutation(
        "the button for a tie means that both are bad",
        "ask",
        "curation.argilla.settings:CHOICES",
        lambda original: {**original, "tie": original["both_bad"], "both_bad": original["tie"]},
    ),
    Mutation(
        "the options of a ranking are titled in reverse",
        "ask",
        "curation.argilla.settings:_questions",
        lambda original: (
            lambda *args, **more: [_other_options(question) for question in original(*args, **more)]
        ),
        "ranking",
    ),
    Mutation(
        "what was sampled first is always shown first",
        "ask",
        "curation.argilla.sharing:Sharing._next_order",
        lambda original: lambda self, ask, own, overall: tuple(range(len(ask.candidates))),
    ),
    Mutation(
        "texts are escaped twice",
        "ask",
        "curation.argilla.settings:escaped",
        lambda original: lambda text: original(original(text)),
    ),
]

IN_PULL_LATER = [
    Mutation(
        "a changed answer is not taken",
        "ask",
        "curation.argilla.intake:_same",
        lambda original: lambda given, before: before is not None,
    ),
    Mutation(
        "an answer that was taken back stays",
        "ask",
        "curation.argilla.intake:_taken_back",
        lambda original: lambda before, answer: before,
    ),
]

IN_PULL = [
    Mutation(
        "a is read as b",
        "label",
        "curation.argilla.answers:CHOICES",
        lambda original: {**original, "a": original["b"], "b": original["a"]},
    ),
    Mutation(
        "a tie is read as a win",
        "label",
        "curation.argilla.answers:CHOICES",
        lambda original: {**original, "tie": original["a"]},
    ),
    Mutation(
        "both bad is read as a win",
        "label",
        "curation.argilla.answers:CHOICES",
        lambda original: {**original, "both_bad": original["b"]},
    ),
    Mutation(
        "the order shown is forgotten",
        "label",
        "schemas.labels:LabelTask.shown",
        lambda original: property(lambda task: tuple(sorted(original.fget(task)))),
    ),
    Mutation(
        "the order of a ranking is forgotten",
        "label",
        "schemas.labels:LabelTask.shown",
        lambda original: property(lambda task: tuple(sorted(original.fget(task)))),
        "ranking",
    ),
    Mutation(
        "the highest rank is the best",
        "label",
        "curation.argilla.answers:_ranked",
        lambda original: lambda *args: _other_way(original(*args)),
        "ranking",
    ),
    Mutation(
        "ranks are read from the last answer to the first",
        "label",
        "curation.argilla.answers:_ranked",
        lambda original: lambda *args: original(*args)[::-1],
        "ranking",
    ),
    Mutation(
        "the order of the list is taken for the ranks",
        "label",
        "curation.argilla.answers:_ranked",
        lambda original: (
            lambda task, value, question: original(
                task,
                [{**item, "rank": place} for place, item in enumerate(value, start=1)],
                question,
            )
        ),
        "ranking",
    ),
    Mutation(
        "equal ranks are set apart",
        "label",
        "curation.argilla.answers:dense",
        lambda original: (
            lambda ranks: tuple(
                sorted(range(len(ranks)), key=lambda place: ranks[place]).index(place) + 1
                for place in range(len(ranks))
            )
        ),
        "ranking",
    ),
    Mutation(
        "drafts and discards count",
        "label",
        "curation.argilla.intake:_answer",
        lambda original: lambda *args: original(*args)._replace(status="submitted"),
    ),
    Mutation(
        "a criterion is read as the overall answer",
        "label",
        "curation.argilla.answers:_value",
        lambda original: (
            lambda answer, question: original(answer, "form" if question == "overall" else question)
        ),
    ),
]

IN_VOTES = [
    Mutation(
        "votes for left are for right",
        "aggregate",
        "curation.votes:_votes",
        lambda original: (
            lambda item: [vote._replace(winner=_OTHER[vote.winner]) for vote in original(item)]
        ),
    ),
    Mutation(
        "a tie is a vote for left",
        "aggregate",
        "curation.votes:_votes",
        lambda original: (
            lambda item: [
                vote._replace(winner="left" if vote.winner == "tie" else vote.winner)
                for vote in original(item)
            ]
        ),
    ),
    Mutation(
        "a tie in a ranking is a vote for left",
        "aggregate",
        "curation.votes:_votes",
        lambda original: (
            lambda item: [
                vote._replace(winner="left" if vote.winner == "tie" else vote.winner)
                for vote in original(item)
            ]
        ),
        "ranking",
    ),
    Mutation(
        "the oldest answer counts",
        "aggregate",
        "curation.voting:counted_judgements",
        lambda original: (
            lambda items, **more: original(
                _with_field(items, revision=lambda item: 99 - item.revision), **more
            )
        ),
    ),
    Mutation(
        "criteria count as overall answers",
        "aggregate",
        "curation.voting:counted_judgements",
        lambda original: (
            lambda items, **more: original(
                _with_field(items, question=lambda item: "overall"), **more
            )
        ),
    ),
]

IN_VOTING = [
    Mutation(
        "the verdict left ranks right first",
        "aggregate",
        "curation.voting:ranks_of",
        lambda original: lambda beats, ties: original([two[::-1] for two in beats], ties),
    ),
    Mutation(
        "the first rank is the worst",
        "aggregate",
        "curation.voting:ranks_of",
        lambda original: (
            lambda beats, ties: (found := original(beats, ties))._replace(
                ranks=dict(zip(found.ranks, _other_way(list(found.ranks.values())), strict=True))
            )
        ),
        "ranking",
    ),
    Mutation(
        "ties are ranked as wins",
        "aggregate",
        "curation.voting:ranks_of",
        lambda original: lambda beats, ties: original([*beats, *ties], []),
        "ranking",
    ),
    Mutation(
        "the matrix of probabilities is transposed",
        "aggregate",
        "curation.voting:_ranking",
        lambda original: lambda *args: _transposed(original(*args)),
    ),
    Mutation(
        "a majority for left is one for right",
        "aggregate",
        "curation.posteriors:of_tally",
        lambda original: (
            lambda tally: original(
                {**tally, "left": tally["right"], "right": tally["left"], "tie": tally["tie"]}
            )
        ),
    ),
    Mutation(
        "a majority of ties is one for left",
        "aggregate",
        "curation.posteriors:of_tally",
        lambda original: (
            lambda tally: (found := original(tally))._replace(
                winner="left" if found.winner == "tie" else found.winner
            )
        ),
    ),
    Mutation(
        "Dawid-Skene and MACE take left for right",
        "aggregate",
        "curation.posteriors:_of_classes",
        lambda original: lambda left, right, tie: original(right, left, tie),
    ),
    Mutation(
        "Bradley-Terry takes left for right",
        "aggregate",
        "curation.bradley_terry:_LEFT_SHARE",
        lambda original: {"left": 0.0, "tie": 0.5, "right": 1.0},
    ),
]

IN_PAIRS = [
    Mutation(
        "a strategy chooses the worse answer",
        "pair",
        "curation.pairs:_ordered_pairs",
        lambda original: lambda ranking: [pair[::-1] for pair in original(ranking)],
    ),
    Mutation(
        "ranks are compared the other way",
        "pair",
        "curation.pairs:_ordered",
        lambda original: lambda ranking, better, worse: original(ranking, worse, better),
    ),
    Mutation(
        "equal ranks are compared as different",
        "pair",
        "curation.pairs:_ordered",
        lambda original: (
            lambda ranking, better, worse: ranking.ranks[better] <= ranking.ranks[worse]
        ),
        "ranking",
    ),
    Mutation(
        "chosen and rejected change places in the proposal",
        "pair",
        "curation.pairs:_proposal",
        lambda original: lambda *args: _swapped_sides(original(*args)),
    ),
    Mutation(
        "p_chosen is that of rejected",
        "pair",
        "curation.pairs:_proposal",
        lambda original: (
            lambda *args: (found := original(*args)).model_copy(
                update={"id": "", "p_chosen": 1 - found.p_chosen}
            )
        ),
    ),
    Mutation(
        "candidates stand in another order than in their ranking",
        "pair",
        "curation.pairs:_ranked",
        lambda original: lambda *args: original(*args)[::-1],
        "ranking",
    ),
]

IN_GATE = [
    Mutation(
        "the gate swaps the sides of what it lets by",
        "validate",
        "curation.validation.gate:Gate._pair",
        lambda original: lambda self, proposal: _swapped_sides(original(self, proposal)),
    ),
    Mutation(
        "the gate takes the better side for the worse",
        "validate",
        "curation.validation.gate:_ROW_CHECKS",
        lambda original: [
            check
            if check.__name__ != "reversed_sides"
            else lambda row, check=check: check(dataclasses.replace(row, p_chosen=1 - row.p_chosen))
            for check in original
        ],
    ),
    Mutation(
        "the gate does not look which side is better",
        "validate",
        "curation.validation.gate:_ROW_CHECKS",
        lambda original: [check for check in original if check.__name__ != "reversed_sides"],
    ),
    Mutation(
        "the gate lets ties by",
        "validate",
        "curation.validation.gate:_ROW_CHECKS",
        lambda original: [check for check in original if check.__name__ != "tie"],
    ),
    Mutation(
        "the gate lets a pair and its reverse by",
        "validate",
        "curation.validation.gate:_GROUP_CHECKS",
        lambda original: original[1:],
    ),
]

IN_EXPORT = [
    Mutation(
        "the columns chosen and rejected are written as each other",
        "export",
        "curation.formats.trl:dataset_row",
        lambda original: lambda pair: _swapped_columns(original(pair)),
    ),
    Mutation(
        "the columns chosen and rejected are read as each other",
        "export",
        "curation.formats.trl:read_dataset",
        lambda original: (
            lambda folder: {
                split: [_swapped_columns(row) for row in rows]
                for split, rows in original(folder).items()
            }
        ),
    ),
]

IN_TRAINING = [
    Mutation(
        "chosen is tokenised as rejected",
        "dpo",
        "dpo.tokens:_conversations",
        lambda original: lambda row: original(row)[::-1],
    ),
    Mutation(
        "the tokens of chosen are handed on as those of rejected",
        "dpo",
        "dpo.tokens:_pair",
        lambda original: (
            lambda *args: (found := original(*args))._replace(
                chosen_ids=found.rejected_ids, rejected_ids=found.chosen_ids
            )
        ),
    ),
    Mutation(
        "a batch holds rejected before chosen",
        "dpo",
        "dpo.trl_adapters.pairs:PairCollator.__call__",
        lambda original: (
            lambda self, rows: original(
                self,
                [
                    {**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}
                    for row in rows
                ],
            )
        ),
    ),
    Mutation(
        "the loss has the other sign",
        "dpo",
        "dpo.trl_adapters.pairs:confident_loss",
        lambda original: lambda *args: -original(*args),
    ),
    Mutation(
        "the loss takes p_chosen for that of rejected",
        "dpo",
        "dpo.trl_adapters.pairs:confident_loss",
        lambda original: (
            lambda name, pairs, settings, p_chosen, weight: original(
                name, pairs, settings, 1 - p_chosen, weight
            )
        ),
    ),
    Mutation(
        "the margin is that of rejected over chosen",
        "dpo",
        "dpo.trl_adapters.pairs:LogRatios",
        lambda original: lambda *args: original(*args).swap(),
    ),
    Mutation(
        "the reference of chosen is taken for that of rejected",
        "dpo",
        "dpo.trl_adapters.pairs:PairTrainer._confident_loss",
        lambda original: (
            lambda self, model, inputs: original(
                self,
                model,
                {
                    **inputs,
                    "ref_chosen_logps": inputs["ref_rejected_logps"],
                    "ref_rejected_logps": inputs["ref_chosen_logps"],
                },
            )
        ),
    ),
    Mutation(
        "the log-probs of chosen are taken for those of rejected",
        "dpo",
        "dpo.trl_adapters.pairs:PairTrainer._logps",
        lambda original: (
            lambda self, model, inputs: original(self, model, inputs).roll(
                len(inputs["input_ids"]) // 2
            )
        ),
    ),
]

MUTATIONS = [
    *IN_PUSH,
    *IN_PULL_LATER,
    *IN_PULL,
    *IN_VOTES,
    *IN_VOTING,
    *IN_PAIRS,
    *IN_GATE,
    *IN_EXPORT,
    *IN_TRAINING,
]

IN_SCORES = [
    Mutation(
        "the highest score ranks last",
        "aggregate",
        "curation.aggregation:_level",
        lambda original: lambda score: -original(score),
    ),
    Mutation(
        "scores go to other candidates than were scored",
        "aggregate",
        "curation.rankers:RewardRanker.rank",
        lambda original: (
            lambda self, items: (
                item.model_copy(update={"scores": item.scores[::-1]})
                for item in original(self, items)
            )
        ),
    ),
    Mutation(
        "a reward means the opposite",
        "aggregate",
        "pairwright.selftest.planted:PlantedReward.__call__",
        lambda original: (
            lambda *args: [None if score is None else -score for score in original(*args)]
        ),
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with one_thread(), own_server(tmp_path_factory.mktemp("server") / "argilla", Silent()):
        yield


@pytest.fixture(scope="module")
def sound(server: None, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, VotesRoad]:
    """A road of each kind, gone as far as the dataset, on which every law holds."""
    folder = tmp_path_factory.mktemp("sound")
    roads: dict[Kind, VotesRoad] = {}
    for kind, planted in PLANTED.items():
        roads[kind] = VotesRoad(folder, folder / kind, kind, planted, Silent())
        assert [law for law in roads[kind].walk(until="export") if not law.holds] == []
    return roads


def test_no_two_mutations_are_the_same() -> None:
    names = [mutation.name for mutation in (*MUTATIONS, *IN_SCORES)]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", ["pairwise", "ranking"])
@pytest.mark.parametrize("step", ["ask", "label", "aggregate"])
def test_every_law_holds_on_a_road_without_mutation(
    sound: dict[Kind, VotesRoad], tmp_path: Path, kind: Kind, step: Step
) -> None:
    assert list(_broken(sound[kind], tmp_path, kind, step, name="sound")) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_breaks_a_law(
    sound: dict[Kind, VotesRoad],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutation: Mutation,
) -> None:
    name = f"mutation-{MUTATIONS.index(mutation)}"
    _apply(monkeypatch, mutation)

    broken = _broken(sound[mutation.kind], tmp_path, mutation.kind, mutation.step, name=name)

    assert next(broken, None) is not None


@pytest.mark.parametrize("mutation", IN_SCORES, ids=lambda mutation: mutation.name)
def test_a_mutation_of_scores_breaks_a_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutation: Mutation
) -> None:
    _apply(monkeypatch, mutation)

    with one_thread():
        laws = examine_scores(tmp_path, Silent(), strategies=["MaxMin"])

        assert next((law for law in laws if not law.holds), None) is not None


def _apply(monkeypatch: pytest.MonkeyPatch, mutation: Mutation) -> None:
    module, _, path = mutation.target.partition(":")
    holder, _, name = path.rpartition(".")
    owner = resolve_name(f"{module}:{holder}" if holder else module)
    monkeypatch.setattr(owner, name, mutation.turned(getattr(owner, name)))


def _broken(sound: VotesRoad, folder: Path, kind: Kind, step: Step, *, name: str) -> Iterator[Law]:
    """The laws that do not hold from that step on, on a copy of the road up to it."""
    inputs = sound.plan.run.path.parent
    if step == "ask":
        road = VotesRoad(inputs, folder / f"{name}-{kind}", kind, LIVE[kind], Silent())
        until: Step = "label"
    else:
        road = _copied(sound, inputs, folder, kind, step)
        until = "dpo" if step == "dpo" else "export"
    return (law for law in road.walk(since=step, until=until) if not law.holds)


def _copied(sound: VotesRoad, inputs: Path, folder: Path, kind: Kind, step: Step) -> VotesRoad:
    run = folder / kind
    shutil.copytree(sound.plan.run.path, run)
    for later in STEPS[STEPS.index(step) :]:
        shutil.rmtree(run / later, ignore_errors=True)
    annotations = sound.plan.annotations.folder
    shutil.copytree(annotations, folder / annotations.name)
    if step == "label":
        for answers in (folder / annotations.name).glob("judgements-*.parquet"):
            answers.unlink()
    return VotesRoad(inputs, run, kind, PLANTED[kind], Silent(), panel=sound.panel)
