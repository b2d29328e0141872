"""Plans: who is asked what, in which order, and what is not asked."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.argilla.sharing import gold_count
from curation.argilla.tasks import LabelPlan, check_people, plan_tasks
from schemas.configs import GoldConfig, LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, PreferencePair, Prompt

Item = tuple[Prompt, list[Candidate]]


def item(question: str, *answers: str, cut: Sequence[str] = ()) -> Item:
    prompt = Prompt(messages=(Message(role="user", content=question),))
    return prompt, [
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(
                answer, finish_reason="length" if answer in cut else "stop"
            ),
            origin=Origin(generator="import:test", index=index),
        )
        for index, answer in enumerate(answers)
    ]


def pairs(count: int, start: int = 0) -> list[Item]:
    return [item(f"q{n}", f"first {n}", f"second {n}") for n in range(start, start + count)]


def gold_pairs(count: int) -> list[PreferencePair]:
    made = []
    for n in range(count):
        prompt, (chosen, rejected) = item(f"gold {n}", f"right {n}", f"wrong {n}")
        made.append(
            PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, strategy="gold")
        )
    return made


def config(people: int = 3, groups: int = 1, quota: int | None = None, **keys: Any) -> LabelConfig:
    workspaces = {
        f"w{g}": WorkspaceConfig(annotators=tuple(f"p{g}-{n}" for n in range(people)), quota=quota)
        for g in range(groups)
    }
    return LabelConfig(dataset="Tone v1", workspaces=workspaces, **{"overlap": 2, **keys})


def plan(
    given_config: LabelConfig,
    items: Sequence[Item],
    gold: Sequence[PreferencePair] = (),
    stored: Sequence[LabelTask] = (),
    seed: int = 0,
) -> LabelPlan:
    return plan_tasks(given_config, items, gold, stored, seed=seed)


def first_shown_first(tasks: Sequence[LabelTask]) -> int:
    return sum(task.candidates[0].completion.text.startswith(("first", "right")) for task in tasks)


def test_a_plan_says_records_answers_load_and_hours() -> None:
    made = plan(config(people=4, overlap=2, seconds_an_answer=36), pairs(10))
    (load,) = made.workspaces
    assert (load.records, load.judgements, load.judgements_an_annotator) == (10, 20, 5.0)
    assert made.judgements == 20
    assert made.hours == load.hours == pytest.approx(0.2)  # 20 answers of 36 seconds


@settings(deadline=None, max_examples=25)
@given(count=st.integers(0, 40), groups=st.integers(1, 4), seed=st.integers(0, 5))
def test_each_pair_is_asked_once_and_the_orders_balance_exactly(
    count: int, groups: int, seed: int
) -> None:
    made = plan(config(groups=groups), pairs(count), seed=seed)
    assert len({task.prompt.id for task in made.tasks}) == len(made.tasks) == count
    assert abs(2 * first_shown_first(made.tasks) - count) <= 1
    for load in made.workspaces:
        here = [task for task in made.tasks if task.workspace == load.workspace]
        assert abs(2 * first_shown_first(here) - len(here)) <= 1


@settings(deadline=None, max_examples=25)
@given(first=st.integers(0, 20), more=st.integers(0, 20), rate=st.sampled_from([0.1, 0.25]))
def test_a_longer_input_keeps_what_was_planned_and_the_balance(
    first: int, more: int, rate: float
) -> None:
    with_gold = config(gold=GoldConfig(path="gold.jsonl", rate=rate))
    before = plan(with_gold, pairs(first), gold_pairs(20))
    after = plan(with_gold, pairs(first + more), gold_pairs(20), before.tasks)
    known = {task.id: task for task in after.tasks}
    assert all(known[task.id] == task for task in before.tasks)
    assert {task.id for task in after.new} == known.keys() - {task.id for task in before.tasks}
    labels = [task for task in after.tasks if task.purpose == "label"]
    golden = [task for task in after.tasks if task.purpose == "gold"]
    assert abs(2 * first_shown_first(labels) - len(labels)) <= 1
    assert abs(2 * first_shown_first(golden) - len(golden)) <= 1
    assert len(golden) == gold_count(first + more, rate)


def test_the_same_input_gives_the_same_plan_and_a_second_plan_nothing_new() -> None:
    asked = config(groups=2, gold=GoldConfig(path="g", rate=0.2), mirror=True)
    first = plan(asked, pairs(12), gold_pairs(6), seed=3)
    assert plan(asked, pairs(12), gold_pairs(6), seed=3) == first
    again = plan(asked, pairs(12), gold_pairs(6), first.tasks, seed=3)
    assert (again.new, again.tasks) == ([], first.tasks)


@pytest.mark.parametrize(("labels", "rate", "gold"), [(90, 0.1, 10), (30, 0.25, 10), (10, 0.5, 10)])
def test_gold_is_its_share_of_all_records(labels: int, rate: float, gold: int) -> None:
    made = plan(config(gold=GoldConfig(path="g", rate=rate)), pairs(labels), gold_pairs(20))
    assert made.workspaces[0].gold == gold
    assert made.workspaces[0].records == labels + gold


def test_a_gold_question_expects_the_right_answer_wherever_it_is_shown() -> None:
    made = plan(config(gold=GoldConfig(path="g", rate=0.5)), pairs(10), gold_pairs(10))
    for task in made.tasks:
        if task.purpose == "gold":
            right = [c.completion.text.startswith("right") for c in task.candidates].index(True)
            assert task.expected == ((1, 2) if right == 0 else (2, 1))


def test_gold_is_spread_among_the_others() -> None:
    made = plan(config(gold=GoldConfig(path="g", rate=0.5)), pairs(50), gold_pairs(50))
    places = [place for place, task in enumerate(made.tasks) if task.purpose == "gold"]
    # Of 100 records 50 are gold: by chance 25 in each half, 14 to 36 in all but 1 of 10,000 cases.
    assert 14 <= sum(place < 50 for place in places) <= 36


def test_gold_that_is_asked_about_anyway_and_too_little_gold_are_counted() -> None:
    prompt, (chosen, rejected) = pairs(1)[0]
    both = PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, strategy="gold")
    made = plan(config(gold=GoldConfig(path="g", rate=0.5)), pairs(10), [both, *gold_pairs(4)])
    assert made.left_out == Counter(GOLD_ALSO_ASKED=1, TOO_LITTLE_GOLD=6)


def test_a_known_gold_question_is_never_asked_as_a_label_too() -> None:
    asked = config(gold=GoldConfig(path="g", rate=0.5))
    before = plan(asked, pairs(2), gold_pairs(2))
    gold_as_items = [(pair.prompt, [pair.chosen, pair.rejected]) for pair in gold_pairs(2)]
    after = plan(asked, [*pairs(2), *gold_as_items], gold_pairs(2), before.tasks)
    assert after.left_out["GOLD_ALSO_ASKED"] == 2
    assert after.new == []


def test_a_mirrored_pair_is_two_records_in_both_orders_far_apart() -> None:
    made = plan(config(groups=2, mirror=True), pairs(20))
    assert len(made.tasks) == 40
    for load in made.workspaces:
        here = [task for task in made.tasks if task.workspace == load.workspace]
        place = {(task.prompt.id, task.mirrored): n for n, task in enumerate(here)}
        by_twin = {(task.prompt.id, task.mirrored): task for task in here}
        for prompt_id in {task.prompt.id for task in here}:
            first, second = by_twin[prompt_id, False], by_twin[prompt_id, True]
            assert first.shown == second.shown[::-1]
            assert first.id != second.id
            assert place[prompt_id, True] - place[prompt_id, False] == len(here) // 2


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_rankings_show_each_answer_on_each_place_equally_often(count: int) -> None:
    rounds = 2 * len(list(permutations(range(count)))) if count == 2 else 4 * count
    items = [item(f"q{n}", *(f"{index} of {n}" for index in range(count))) for n in range(rounds)]
    made = plan(config(kind="ranking"), items)
    assert {task.dataset for task in made.tasks} == {f"tone-v1-rank-{count}"}
    for place in range(count):
        shown = Counter(task.candidates[place].completion.text[0] for task in made.tasks)
        assert set(shown.values()) == {rounds // count}


def test_a_ranking_shows_six_answers_and_counts_the_rest() -> None:
    made = plan(config(kind="ranking"), [item("q", *(f"answer {n}" for n in range(8)))])
    assert len(made.tasks[0].candidates) == 6
    assert made.left_out == Counter(OVER_SIX=2)


def test_gold_pairs_hide_only_among_rankings_of_two() -> None:
    asked = config(kind="ranking", gold=GoldConfig(path="g", rate=0.5))
    among_threes = plan(asked, [item("q", "a", "b", "c")], gold_pairs(3))
    assert among_threes.left_out == Counter(GOLD_NOT_RANKED=3)
    among_twos = plan(asked, pairs(3), gold_pairs(3))
    assert {task.dataset for task in among_twos.tasks} == {"tone-v1-rank-2"}
    assert among_twos.workspaces[0].gold == 3


def test_cut_off_and_equal_looking_answers_are_left_out_with_the_reason() -> None:
    items = [
        item("q1", "whole", "other", "cut", cut=["cut"]),
        item("q2", "two\nlines", "two\r\nlines"),
        item("q3", "only", "cut", cut=["cut"]),
    ]
    made = plan(config(), items)
    assert len(made.tasks) == 1
    assert made.left_out == Counter(TRUNCATED=2, SAME_TEXT=1, TOO_FEW_CANDIDATES=2)


def test_every_pair_of_a_prompt_is_asked_or_as_many_as_wanted() -> None:
    answers = [f"answer {n}" for n in range(4)]
    everything = plan(config(), [item("q", *answers)])
    asked = {frozenset(task.shown) for task in everything.tasks}
    ids = [candidate.text_id for candidate in item("q", *answers)[1]]
    assert asked == {frozenset(pair) for pair in combinations(ids, 2)}
    assert len(plan(config(pairs_a_prompt=2), [item("q", *answers)]).tasks) == 2


def test_a_new_answer_changes_no_earlier_choice_of_pairs() -> None:
    few = config(pairs_a_prompt=2)
    before = plan(few, [item("q", "a", "b", "c")])
    after = plan(few, [item("q", "a", "b", "c", "d", "e")], stored=before.tasks)
    assert after.new == []
    assert {task.id for task in after.tasks} == {task.id for task in before.tasks}


@pytest.mark.parametrize(("mirror", "rate"), [(False, None), (True, None), (False, 0.2)])
def test_no_workspace_gets_more_than_its_quota(mirror: bool, rate: float | None) -> None:
    gold = None if rate is None else GoldConfig(path="g", rate=rate)
    made = plan(config(groups=2, quota=10, mirror=mirror, gold=gold), pairs(40), gold_pairs(20))
    assert all(load.records <= 10 for load in made.workspaces)
    labels = len({task.prompt.id for task in made.tasks if task.purpose == "label"})
    assert labels == {(False, None): 20, (True, None): 10, (False, 0.2): 16}[mirror, rate]
    assert made.left_out == Counter(NO_ROOM=40 - labels)


def test_a_quota_counts_what_the_people_were_asked_in_other_datasets_too() -> None:
    small = config(quota=5)
    other = small.model_copy(update={"dataset": "Another"})
    before = plan(other, pairs(3))
    after = plan(small, pairs(10, start=50), stored=before.tasks)
    assert (len(after.new), after.left_out) == (2, Counter(NO_ROOM=8))


def test_records_are_shared_out_by_the_number_of_people() -> None:
    workspaces = {
        "small": WorkspaceConfig(annotators=("a", "b")),
        "large": WorkspaceConfig(annotators=("c", "d", "e", "f")),
    }
    made = plan(LabelConfig(dataset="d", workspaces=workspaces, overlap=2), pairs(30))
    assert {load.workspace: load.records for load in made.workspaces} == {"small": 10, "large": 20}


def test_what_was_asked_in_a_workspace_that_is_gone_is_not_asked_again() -> None:
    before = plan(config(groups=2), pairs(10))
    after = plan(config(groups=1), pairs(10), stored=before.tasks)
    assert after.new == []
    assert after.left_out == Counter(ASKED_ELSEWHERE=5)


def test_too_few_people_for_the_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="w0 has 2 annotators, but each record needs 3 answers"):
        plan(config(people=2, overlap=3), pairs(1))


def test_the_same_prompt_twice_is_asked_once() -> None:
    assert plan(config(), pairs(2) + pairs(2)).left_out == Counter(ASKED_TWICE=2)


def test_an_empty_input_gives_an_empty_plan() -> None:
    made = plan(config(), [])
    assert (made.tasks, made.judgements, made.hours) == ([], 0, 0)


@pytest.mark.parametrize("overlap", [1, 3])
def test_another_overlap_for_records_that_are_there_is_refused(overlap: int) -> None:
    # The server's dataset keeps the first, so fewer answers than wanted would look complete.
    items = pairs(2)
    stored = plan(config(overlap=2), items).tasks
    with pytest.raises(ValueError, match=rf"label.overlap is {overlap}, but .* with 2 answers"):
        plan(config(overlap=overlap), items, stored=stored)


def people(*names: str, quota: int | None = None) -> WorkspaceConfig:
    return WorkspaceConfig(annotators=names, quota=quota)


@pytest.mark.parametrize(
    ("workspaces", "adjudicators", "told"),
    [
        ({"a": people("ann", "ann")}, (), "label.workspaces.a names 'ann' more than once"),
        ({"a": people("ann")}, ("judy", "judy"), "label.adjudicators names 'judy' more than once"),
        (
            {"a": people("ann", "bob", quota=5), "b": people("ann")},
            (),
            "'ann' is in label.workspaces.a and in b, so a quota cannot hold",
        ),
        ({"follow-up-ann": people("ann")}, (), "give it another name"),
        ({"adjudication-2": people("ann")}, (), "give it another name"),
    ],
)
def test_people_who_are_named_so_that_a_promise_breaks_are_refused(
    workspaces: dict[str, WorkspaceConfig], adjudicators: tuple[str, ...], told: str
) -> None:
    asked = LabelConfig(dataset="d", workspaces=workspaces, adjudicators=adjudicators, overlap=1)
    with pytest.raises(ValueError, match=told):
        plan(asked, pairs(1))


def test_one_person_may_be_in_two_workspaces_without_a_quota() -> None:
    rooms = {"a": people("ann", "bob"), "b": people("ann")}
    check_people(LabelConfig(dataset="d", workspaces=rooms, adjudicators=("ann",)))


def test_a_gold_answer_that_was_turned_round_since_is_refused() -> None:
    gold = gold_pairs(3)
    with_gold = config(gold=GoldConfig(path="gold.jsonl", rate=0.2))
    before = plan(with_gold, pairs(12), gold).tasks
    assert plan(with_gold, pairs(12), gold, before).new == []
    turned = PreferencePair(
        prompt=gold[0].prompt, chosen=gold[0].rejected, rejected=gold[0].chosen, strategy="gold"
    )
    with pytest.raises(ValueError, match=f"'{turned.prompt.id}' was put with the other answer"):
        plan(with_gold, pairs(12), [turned, *gold[1:]], before)
    assert plan(with_gold, pairs(12), gold[1:], before).new == []
