"""A machine's ranking reaches the page after people have answered, or in the open."""

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.argilla.suggest import agent_slug, opinions, suggest, suggestion_value
from schemas.labels import LabelTask
from schemas.records import Annotator, Candidate, Judgement, Prompt
from tests.curation.argilla.desk import Desk, item


def judged(
    prompt: Prompt,
    candidates: Sequence[Candidate],
    scores: Sequence[float | None] | None = None,
    ranks: Sequence[int] | None = None,
    name: str = "org/RM 8B (v1)",
    question: str = "overall",
    kind: Any = "reward_model",
) -> Judgement:
    return Judgement(
        prompt_id=prompt.id,
        annotator=Annotator(kind=kind, name=name),
        question=question,
        candidates=tuple(candidate.text_id for candidate in candidates),
        scores=None if scores is None else tuple(scores),
        ranks=None if ranks is None else tuple(ranks),
    )


def task_of(prompt: Prompt, candidates: Sequence[Candidate], **keys: Any) -> LabelTask:
    return LabelTask(
        dataset="d", workspace="w", prompt=prompt, candidates=tuple(candidates), **keys
    )


def only(task: LabelTask, *judgements: Judgement) -> tuple[Any, Any]:
    left_out: Counter[str] = Counter()
    (opinion,) = opinions(task, judgements, left_out)
    assert not left_out
    return suggestion_value(task, opinion)


@pytest.mark.parametrize(
    ("scores", "choice"), [((2.0, -3.2), "a"), ((-3.2, 2.0), "b"), ((-3.2, -3.2), "tie")]
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_better_scored_answer_is_suggested_wherever_it_is_shown(
    scores: tuple[float, float], choice: str, turned: bool
) -> None:
    prompt, candidates = item("q", "x", "y")
    shown = candidates[::-1] if turned else candidates
    value, score = only(task_of(prompt, shown), judged(prompt, candidates, scores))
    turn = {"a": "b", "b": "a", "tie": "tie"}
    assert value == (turn[choice] if turned else choice)
    # 1 / (1 + exp(-5.2)) for the margin of 5.2, one half for none.
    assert score == pytest.approx(0.5 if choice == "tie" else 0.9945137)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_a_suggestions_score_is_between_0_and_1_whatever_the_rewards(scores: list[float]) -> None:
    prompt, candidates = item("q", "x", "y")
    for kind in ("pairwise", "ranking"):
        _, score = only(task_of(prompt, candidates, kind=kind), judged(prompt, candidates, scores))
        assert all(0 <= each <= 1 for each in (score if kind == "ranking" else [score]))


def test_a_ranking_keeps_its_ties() -> None:
    prompt, candidates = item("q", "x", "y", "z")
    task = task_of(prompt, candidates, kind="ranking")
    value, score = only(task, judged(prompt, candidates, (0.0, 1.5, 0.0)))
    assert value == [
        {"value": "1", "rank": 2},
        {"value": "2", "rank": 1},
        {"value": "3", "rank": 2},
    ]
    assert score == pytest.approx([0.5, 0.8175745, 0.5])


def test_a_pair_is_suggested_from_a_ranking_of_all_answers_of_the_prompt() -> None:
    prompt, candidates = item("q", "x", "y", "z")
    pair = task_of(prompt, candidates[1:])
    value, score = only(pair, judged(prompt, candidates, ranks=(1, 3, 2), kind="judge"))
    assert (value, score) == ("b", None)


def test_a_judge_that_contradicts_itself_in_the_other_order_suggests_a_tie() -> None:
    prompt, candidates = item("q", "x", "y")
    task = task_of(prompt, candidates)
    first = judged(prompt, candidates, ranks=(1, 2), kind="judge", name="j")
    other = judged(prompt, candidates[::-1], ranks=(1, 2), kind="judge", name="j")
    assert only(task, first, other)[0] == "tie"
    agrees = judged(prompt, candidates[::-1], ranks=(2, 1), kind="judge", name="j")
    assert only(task, first, agrees)[0] == "a"


def test_an_abstention_is_counted_and_nothing_is_suggested() -> None:
    prompt, candidates = item("q", "x", "y")
    left_out: Counter[str] = Counter()
    judgement = judged(prompt, candidates, (None, 1.0))
    assert opinions(task_of(prompt, candidates), [judgement], left_out) == []
    assert left_out == Counter(NO_SCORE=1)


def test_a_score_that_is_no_number_is_counted_and_left_out() -> None:
    prompt, candidates = item("q", "x", "y")
    for value in (float("nan"), float("inf"), float("-inf")):
        left_out: Counter[str] = Counter()
        # Our own records refuse such a score; a ranker of the user's may have skipped the check.
        judgement = judged(prompt, candidates, (0.0, 1.0)).model_copy(
            update={"scores": (value, 1.0)}
        )
        assert opinions(task_of(prompt, candidates), [judgement], left_out) == []
        assert left_out == Counter(NO_SCORE=1)


def test_machines_are_named_as_the_server_takes_them() -> None:
    assert agent_slug("org/RM 8B (v1)") == "org-rm-8b-v1"
    assert agent_slug("x" * 300) == "x" * 100


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(argilla_server.url, argilla_server.api_key, tmp_path)


ITEMS = [item(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(2)]
MACHINE = [judged(prompt, candidates, (3.0, -1.0)) for prompt, candidates in ITEMS]


def test_nothing_is_suggested_before_a_record_has_all_its_answers(desk: Desk) -> None:
    first, second = desk.push(ITEMS)
    desk.answer("ann", first, "a")
    assert suggest(desk.client, desk.store, desk.config, MACHINE) == (
        0,
        Counter(NOT_COMPLETE=2),
    )
    desk.answer("bob", first, "b")
    assert suggest(desk.client, desk.store, desk.config, MACHINE) == (
        1,
        Counter(NOT_COMPLETE=1),
    )
    records = desk.records()
    assert records[second.id]["suggestions"] == []
    (made,) = records[first.id]["suggestions"]
    good_first = first.candidates[0].completion.text.startswith("good")
    assert (made["value"], made["agent"]) == ("a" if good_first else "b", "org-rm-8b-v1")
    assert made["score"] == pytest.approx(0.9820138)  # 1 / (1 + exp(-4))


def test_suggesting_again_attaches_nothing_twice_and_never_over_another_machine(
    desk: Desk,
) -> None:
    first, _ = desk.push(ITEMS)
    desk.answer("ann", first, "a")
    desk.answer("bob", first, "b")
    suggest(desk.client, desk.store, desk.config, MACHINE)
    before = desk.records()
    again = suggest(desk.client, desk.store, desk.config, MACHINE)
    assert (again.attached, again.left_out["PRESENT"]) == (0, 1)
    other = [judged(prompt, candidates, (0.0, 1.0), name="other") for prompt, candidates in ITEMS]
    assert suggest(desk.client, desk.store, desk.config, other).left_out["TAKEN"] == 1
    assert desk.records() == before


def test_people_are_left_as_they_were(desk: Desk) -> None:
    first, _ = desk.push(ITEMS)
    for who in ("ann", "bob"):
        desk.answer(who, first, "tie")
    before = desk.records()[first.id]
    suggest(desk.client, desk.store, desk.config, MACHINE)
    after = desk.records()[first.id]
    for key in ("responses", "fields", "metadata", "status", "external_id"):
        assert after[key] == before[key]


def test_a_declared_assisted_run_suggests_before_anybody_answers(
    argilla_server: Any, tmp_path: Path
) -> None:
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, assisted=True)
    tasks = desk.push(ITEMS)
    assert all(task.assisted for task in tasks)
    assert suggest(desk.client, desk.store, desk.config, MACHINE).attached == 2


def test_questions_and_prompts_no_machine_judged_are_counted(desk: Desk) -> None:
    tasks = desk.push(ITEMS)
    for task in tasks:
        for who in ("ann", "bob"):
            desk.answer(who, task, "tie")
    prompt, candidates = ITEMS[0]
    tone = judged(prompt, candidates, (0.0, 1.0), question="tone")
    made = suggest(desk.client, desk.store, desk.config, [tone])
    assert made == (0, Counter(NO_QUESTION=1, NOT_RANKED=1))
    human = judged(prompt, candidates, ranks=(1, 2), kind="human", name=f"h-{uuid.uuid4()}")
    assert suggest(desk.client, desk.store, desk.config, [human]).left_out == Counter(NOT_RANKED=2)


def test_switched_off_no_request_is_made(desk: Desk) -> None:
    off = desk.config.model_copy(update={"suggest": False})
    assert suggest(desk.client, desk.store, off, MACHINE) == (0, Counter())


def test_tied_ranks_reach_the_server(argilla_server: Any, tmp_path: Path) -> None:
    desk = Desk(
        argilla_server.url,
        argilla_server.api_key,
        tmp_path,
        ["ann"],
        overlap=1,
        kind="ranking",
        assisted=True,
    )
    prompt, candidates = item("Three?", "x", "y", "z")
    (task,) = desk.push([(prompt, candidates)])
    suggest(desk.client, desk.store, desk.config, [judged(prompt, candidates, (1.0, 2.0, 1.0))])
    name = f"prefs-{desk.mark}-rank-3"
    (found,) = [dataset["id"] for dataset in desk.client.datasets() if dataset["name"] == name]
    (made,) = desk.records(found)[task.id]["suggestions"]
    texts = [candidate.completion.text for candidate in task.candidates]
    ranks = {texts[int(each["value"]) - 1]: each["rank"] for each in made["value"]}
    assert ranks == {"y": 1, "x": 2, "z": 2}
