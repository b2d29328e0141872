"""Follow-ups and adjudication: who is asked once more about a pair, and who is not."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.argilla.follow_ups import adjudication_tasks, follow_up_tasks, used_up
from curation.argilla.tasks import LabelPlan, plan_tasks
from curation.posteriors import Pair
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask
from tests.curation.argilla.desk import item

ONE_TEAM = {"team": WorkspaceConfig(annotators=("ann", "bob", "cem"))}
PAIRS = [item(f"q{n}", f"first {n}", f"second {n}") for n in range(12)]
KEYS: list[Pair] = []
for _prompt, _pair in PAIRS:
    _left, _right = sorted(candidate.text_id for candidate in _pair)
    KEYS.append((_prompt.id, _left, _right))


def config(**keys: Any) -> LabelConfig:
    return LabelConfig(dataset="Tone v1", **{"workspaces": ONE_TEAM, "overlap": 2, **keys})


def follow(
    answered: Mapping[int, set[str]],
    stored: Sequence[LabelTask] = (),
    *,
    count: int = 4,
    asked: LabelConfig | None = None,
    **keys: Any,
) -> LabelPlan:
    return follow_up_tasks(
        asked or config(),
        [(prompt, pair[0], pair[1]) for prompt, pair in PAIRS[:count]],
        {KEYS[number]: names for number, names in answered.items()},
        stored,
        **{"seed": 0, "number": 1, **keys},
    )


def adjudicate(
    answered: Mapping[int, set[str]], adjudicators: tuple[str, ...], **keys: Any
) -> LabelPlan:
    return adjudication_tasks(
        config(adjudicators=adjudicators),
        [(prompt, pair[0], pair[1]) for prompt, pair in PAIRS[:3]],
        {KEYS[number]: names for number, names in answered.items()},
        **{"seed": 0, "stored": (), **keys},
    )


def where(plan: LabelPlan) -> dict[str, str]:
    """The workspace of each question."""
    return {str(task.prompt.messages[0].content): task.workspace for task in plan.tasks}


def test_in_one_workspace_a_follow_up_goes_to_the_one_who_has_not_answered() -> None:
    made = follow({0: {"ann", "bob"}, 1: {"bob", "cem"}, 2: {"ann", "bob", "cem"}, 3: {"cem"}})
    assert where(made) == {"q0": "follow-up-cem", "q1": "follow-up-ann", "q3": "follow-up-bob"}
    assert made.left_out == Counter(NOBODY_NEW=1)
    assert {name: room.annotators for name, room in made.config.workspaces.items()} == {
        "follow-up-ann": ("ann",),
        "follow-up-bob": ("bob",),
        "follow-up-cem": ("cem",),
    }
    assert [(load.records, load.judgements) for load in made.workspaces] == [(1, 1)] * 3


def test_a_follow_up_is_another_dataset_that_names_the_first() -> None:
    first = plan_tasks(config(), PAIRS, [], [], seed=0).tasks
    made = follow({}, first, number=3)
    assert {(task.dataset, task.follows) for task in made.tasks} == {("tone-v1-next-3", "tone-v1")}
    assert {(task.purpose, task.overlap, task.kind) for task in made.tasks} == {
        ("label", 1, "pairwise")
    }
    assert not {task.id for task in made.tasks} & {task.id for task in first}
    assert made.new == made.tasks


def test_a_second_follow_up_asks_nobody_in_person_twice() -> None:
    first = follow({0: {"ann", "bob"}, 1: {"ann"}}, count=2)
    second = follow({0: {"ann", "bob"}, 1: {"ann"}}, first.tasks, count=2, number=2)
    assert second.left_out == Counter(NOBODY_NEW=1)
    ((asked_first, asked_second),) = [(where(first)["q1"], where(second)["q1"])]
    assert {asked_first, asked_second} == {"follow-up-bob", "follow-up-cem"}


def test_who_is_excluded_is_asked_nothing() -> None:
    made = follow({0: {"ann"}, 1: {"bob", "cem"}}, count=2, excluded={"ann"})
    assert set(where(made)) == {"q0"}
    assert made.left_out == Counter(NOBODY_NEW=1)
    assert not {"follow-up-ann"} & set(made.config.workspaces)


def test_people_of_all_workspaces_are_asked() -> None:
    rooms = {"one": WorkspaceConfig(annotators=("ann",)), "two": WorkspaceConfig(annotators=("b",))}
    made = follow({0: {"ann"}, 1: {"b"}}, count=2, asked=config(workspaces=rooms, overlap=1))
    assert where(made) == {"q0": "follow-up-b", "q1": "follow-up-ann"}


def test_who_has_the_least_choice_is_asked_first_so_that_the_load_is_even() -> None:
    # In the order given, ann would get the first pair and the second, which is for her alone.
    made = follow({1: {"bob", "cem"}}, count=6)
    assert where(made)["q1"] == "follow-up-ann"
    assert Counter(where(made).values()) == Counter(
        {"follow-up-ann": 2, "follow-up-bob": 2, "follow-up-cem": 2}
    )
    two = follow({1: {"bob", "cem"}}, count=2)
    assert where(two) == {"q0": "follow-up-bob", "q1": "follow-up-ann"}


@settings(deadline=None, max_examples=30)
@given(
    answered=st.dictionaries(
        st.integers(0, 11), st.sets(st.sampled_from(["ann", "bob", "cem"])), max_size=12
    )
)
def test_a_follow_up_never_asks_who_has_answered_and_says_what_nobody_can(
    answered: dict[int, set[str]],
) -> None:
    made = follow(answered, count=12)
    assert made == follow(answered, count=12)
    for task in made.tasks:
        (name,) = made.config.workspaces[task.workspace].annotators
        number = int(str(task.prompt.messages[0].content)[1:])
        assert name not in answered.get(number, set())
    by_key: dict[Pair, Collection[str]] = {
        KEYS[number]: names for number, names in answered.items()
    }
    nobody = used_up(config(), KEYS, by_key, [])
    assert made.left_out["NOBODY_NEW"] == len(nobody) == 12 - len(made.tasks)


def test_pairs_that_are_used_up_count_those_asked_in_person_and_not_the_excluded() -> None:
    by = {KEYS[0]: {"ann", "bob"}, KEYS[1]: {"ann", "bob"}}
    stored = follow({0: {"ann", "bob"}}, count=1).tasks
    assert used_up(config(), KEYS[:3], by, stored) == [KEYS[0]]
    assert used_up(config(), KEYS[:3], by, stored, excluded={"cem"}) == KEYS[:2]


def test_disputes_are_shared_out_among_the_adjudicators() -> None:
    made = adjudicate({0: {"ann", "bob"}}, ("judy", "kim"))
    shares = Counter(where(made).values())
    assert set(shares) == {"adjudication-judy", "adjudication-kim"}
    assert made.config.workspaces["adjudication-judy"].annotators == ("judy",)
    assert {(task.dataset, task.purpose, task.overlap) for task in made.tasks} == {
        ("tone-v1-adjudication", "adjudication", 1)
    }
    again = adjudicate({0: {"ann", "bob"}}, ("judy", "kim"), stored=made.tasks)
    assert (again.new, where(again)) == ([], where(made))


def test_nobody_rules_on_a_dispute_of_her_own() -> None:
    votes = {0: {"ann", "judy"}, 1: {"judy", "kim"}, 2: {"kim"}}
    made = adjudicate(votes, ("judy", "kim"))
    assert where(made) == {"q0": "adjudication-kim", "q2": "adjudication-judy"}
    assert made.left_out == Counter(OWN_DISPUTE=1)
    alone = adjudicate(votes, ("judy",))
    assert where(alone) == {"q2": "adjudication-judy"}
    assert alone.left_out == Counter(OWN_DISPUTE=2)


def test_disputes_of_an_adjudicator_who_is_gone_are_for_another() -> None:
    before = adjudicate({}, ("judy",))
    after = adjudicate({}, ("kim",), stored=before.tasks)
    assert set(where(after).values()) == {"adjudication-kim"}
    assert after.new == after.tasks


def test_an_excluded_adjudicator_rules_on_nothing() -> None:
    made = adjudicate({}, ("judy", "kim"), excluded={"judy"})
    assert set(where(made).values()) == {"adjudication-kim"}
    with pytest.raises(ValueError, match="every one of judy is excluded"):
        adjudicate({}, ("judy",), excluded={"judy"})
