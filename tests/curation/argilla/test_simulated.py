"""Scripts answer as declared, over the page's API, and see no more than the page."""

import json
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.argilla.pull import pull
from curation.argilla.simulated import Answered, answer_all, noisy_ranks
from curation.votes import counted_judgements
from schemas.configs import SimulatedAnnotator
from schemas.labels import LabelTask
from tests.curation.argilla.desk import Desk, item


def judge(messages: list[dict[str, str]], texts: list[str]) -> list[float | None]:
    """Longer is better, and what is unclear cannot be said."""
    return [None if "unclear" in text else float(len(text)) for text in texts]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=6), st.integers(0, 9))
def test_whoever_is_always_right_ranks_by_the_scores(scores, seed):
    ranks = noisy_ranks([float(score) for score in scores], 1.0, Random(seed))
    assert set(ranks) == set(range(1, len(set(scores)) + 1))
    for i, j in combinations(range(len(scores)), 2):
        assert (scores[i] > scores[j]) == (ranks[i] < ranks[j])
        assert (scores[i] == scores[j]) == (ranks[i] == ranks[j])


@settings(deadline=None)
@given(st.lists(st.integers(0, 99), min_size=2, max_size=6, unique=True), st.integers(0, 9))
def test_whoever_is_always_wrong_ranks_the_other_way_round(scores, seed):
    ranks = noisy_ranks([float(score) for score in scores], 0.0, Random(seed))
    assert all(
        (scores[i] > scores[j]) == (ranks[i] > ranks[j])
        for i, j in combinations(range(len(scores)), 2)
    )


@pytest.mark.parametrize("accuracy", [0.2, 0.5, 0.75, 0.89])
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_comparisons_are_right_as_often_as_declared(accuracy, count):
    rng = Random(7)
    pairs = list(combinations(range(count), 2))
    rounds = 4000
    right = 0
    for _ in range(rounds):
        ranks = noisy_ranks([float(-n) for n in range(count)], accuracy, rng)
        right += sum(ranks[i] < ranks[j] for i, j in pairs)
    # Five standard errors, were the pairs of a ranking one draw.
    allowed = 5 * (accuracy * (1 - accuracy) / rounds) ** 0.5
    assert right / (rounds * len(pairs)) == pytest.approx(accuracy, abs=allowed)


def test_equal_answers_tie_as_often_as_declared_and_else_either_side_wins():
    rng = Random(3)
    found = [noisy_ranks([1.0, 1.0], 0.8, rng) for _ in range(5000)]
    assert set(found) == {(1, 1), (1, 2), (2, 1)}
    assert found.count((1, 1)) / 5000 == pytest.approx(0.8, abs=0.03)
    assert found.count((1, 2)) / 5000 == pytest.approx(0.1, abs=0.02)


SCRIPTS = {
    "simulated-sure": SimulatedAnnotator(name="simulated-sure", accuracy=1.0),
    "simulated-often": SimulatedAnnotator(name="simulated-often", accuracy=0.75),
    "simulated-spam": SimulatedAnnotator(name="simulated-spam", spammer=True),
}


def scripts(desk: Desk) -> list[SimulatedAnnotator]:
    """The scripts under the names that they have at this desk."""
    return [
        script.model_copy(update={"name": desk.people[name]})
        for name, script in SCRIPTS.items()
        if name in desk.people
    ]


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(argilla_server.url, argilla_server.api_key, tmp_path, tuple(SCRIPTS), overlap=3)


def right(task: LabelTask) -> tuple[int, ...]:
    lengths = [len(candidate.completion.text) for candidate in task.candidates]
    return tuple(1 + sum(other > length for other in set(lengths)) for length in lengths)


def test_every_record_is_answered_by_each_script_as_declared(desk):
    pairs = [item(f"Question {n}?", f"<b>long</b> {n}", f"s{n}") for n in range(40)]
    tasks = {task.id: task for task in desk.push(pairs)}
    done = answer_all(desk.client, scripts(desk), judge, seed=0)
    assert done == [Answered(name, 40, 0) for name in desk.people.values()]
    assert pull(desk.client, desk.store).counts["NEW"] == 120
    hits = dict.fromkeys(desk.people.values(), 0)
    for judgement in desk.store.judgements.read():
        hits[judgement.annotator.name] += judgement.ranks == right(tasks[str(judgement.task_id)])
    sure, often, spam = hits.values()
    assert sure == 40
    assert 22 <= often <= 38
    # Both orders are shown alike, so always A is right half of the time.
    assert spam == 20


def test_answers_depend_on_what_is_shown_and_not_on_the_order_served(argilla_server, tmp_path):
    pairs = [item(f"Question {n}?", f"long {n}", f"s{n}") for n in range(30)]
    name = "simulated-often"
    server = (argilla_server.url, argilla_server.api_key)
    one = Desk(*server, tmp_path / "one", (name,), overlap=1)
    two = Desk(*server, tmp_path / "two", (name,), overlap=1, people_of=one)
    said = {}
    for desk in (one, two):
        desk.push(pairs)
        answer_all(desk.client, scripts(desk), judge, seed=4, datasets=[f"prefs-{desk.mark}"])
        pull(desk.client, desk.store)
        said[desk.mark] = {
            (judgement.candidates, judgement.ranks) for judgement in desk.store.judgements.read()
        }
    assert said[one.mark] == said[two.mark]
    assert len(said[one.mark]) == 30


def test_scripts_leave_datasets_alone_that_are_not_named(argilla_server, tmp_path):
    server = (argilla_server.url, argilla_server.api_key)
    one = Desk(*server, tmp_path / "one", tuple(SCRIPTS), overlap=3)
    two = Desk(*server, tmp_path / "two", tuple(SCRIPTS), overlap=3, people_of=one)
    for desk in (one, two):
        desk.push([item("Question?", "long", "s")])
    names = [f"prefs-{one.mark}"]
    done = answer_all(one.client, scripts(one), judge, seed=0, datasets=names)
    assert [each.submitted for each in done] == [1, 1, 1]
    assert pull(two.client, two.store).counts["NEW"] == 0


def test_what_a_script_cannot_judge_it_discards_once(desk):
    desk.push([item("Question?", "unclear", "s")])
    done = answer_all(desk.client, scripts(desk), judge, seed=0)
    assert [(each.submitted, each.discarded) for each in done] == [(0, 1), (0, 1), (1, 0)]


def test_records_get_no_more_answers_than_they_need(argilla_server, tmp_path):
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, tuple(SCRIPTS), overlap=1)
    desk.push([item(f"Question {n}?", f"long {n}", f"s{n}") for n in range(55)])
    done = answer_all(desk.client, scripts(desk), judge, seed=0)
    assert sum(each.submitted for each in done) == 55


def test_rankings_and_criteria_are_answered_too(argilla_server, tmp_path):
    desk = Desk(
        argilla_server.url,
        argilla_server.api_key,
        tmp_path,
        tuple(SCRIPTS),
        overlap=3,
        kind="ranking",
        criteria=("Is it true?",),
    )
    (task,) = desk.push([item("Question?", "s", "middle", "the longest", "other!")])
    answer_all(desk.client, scripts(desk), judge, seed=0)
    pull(desk.client, desk.store)
    judgements = list(desk.store.judgements.read())
    for question in ("overall", "is_it_true"):
        ranks = {
            item.annotator.name: item.ranks
            for item in counted_judgements(judgements, question=question).kept
        }
        assert ranks[desk.people["simulated-spam"]] == (1, 2, 3, 4)
        lengths = {"the longest": 1, "middle": 2, "other!": 2, "s": 3}
        texts = [candidate.completion.text for candidate in task.candidates]
        assert ranks[desk.people["simulated-sure"]] == tuple(lengths[text] for text in texts)


def test_a_script_that_does_not_say_that_it_is_one_is_refused(desk):
    with pytest.raises(ValueError, match="must begin with 'simulated-'"):
        answer_all(desk.client, [SimulatedAnnotator(name="ann")], judge, seed=0)
    with pytest.raises(ValueError, match="has no account"):
        answer_all(desk.client, [SimulatedAnnotator(name="simulated-nobody")], judge, seed=0)


def test_nothing_an_annotator_is_sent_tells_where_a_text_comes_from(desk):
    """All that the page asks for, and the one route that Argilla leaves open beside it."""
    tasks = desk.push([item(f"Question {n}?", f"long {n}", f"s{n}") for n in range(3)])
    client = desk.clients["simulated-sure"]
    dataset = f"/datasets/{desk.dataset_id}"
    query = {"query": {}, "filters": None}
    include = "include=responses&include=suggestions"
    found = client.post(f"/me{dataset}/records/search?{include}", query)
    page = [
        found,
        client.get("/me"),
        client.get("/me/datasets"),
        client.get(dataset),
        client.get(f"{dataset}/fields"),
        client.get(f"{dataset}/questions"),
        client.get(f"/me{dataset}/metadata-properties"),
        client.get(f"/me{dataset}/metrics"),
        client.get(f"{dataset}/progress"),
    ]
    assert all(each["record"]["metadata"] in ({}, None) for each in found["items"])
    record = client.get(f"/records/{found['items'][0]['record']['id']}")
    sent = json.dumps([*page, record])
    for task in tasks:
        for candidate in task.candidates:
            assert candidate.id not in sent
        assert task.prompt.id not in sent
    for word in ("gold", "expected", "purpose", "import:test", "generator", "reward", "weights"):
        assert word not in sent
    for task in tasks:
        for candidate in task.candidates:
            assert candidate.text_id not in json.dumps(page)


@pytest.mark.parametrize(
    "path", ["/datasets/{id}/records?include=responses", "/users", "/datasets/{id}/records/search"]
)
def test_an_annotator_may_not_read_what_others_answered(desk, path, argilla_server):
    desk.push([item("Question?", "long", "s")])
    url = argilla_server.url + "/api/v1" + path.format(id=desk.dataset_id)
    user = desk.people["simulated-sure"]
    (key,) = [u["api_key"] for u in desk.client.get("/users")["items"] if u["username"] == user]
    method = "POST" if path.endswith("search") else "GET"
    answer = httpx.request(
        method, url, headers={"X-Argilla-Api-Key": key}, json={} if method == "POST" else None
    )
    assert answer.status_code == 403
