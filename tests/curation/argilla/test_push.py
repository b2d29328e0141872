"""Records reach the server once each, whatever happens on the way, and show what was planned."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from curation.argilla import push as push_module
from curation.argilla.accounts import ensure_workspaces
from curation.argilla.client import Client
from curation.argilla.follow_ups import follow_up_tasks
from curation.argilla.push import push
from curation.argilla.settings import FIELD, record_fields, shown_texts
from curation.argilla.tasks import LabelPlan, plan_tasks
from schemas.annotations import AnnotationStore
from schemas.configs import GoldConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, PreferencePair, Prompt
from tests.curation.argilla.desk import Desk, item

Item = tuple[Prompt, list[Candidate]]


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(argilla_server.url, argilla_server.api_key, tmp_path)


def pairs(count: int, start: int = 0) -> list[Item]:
    return [item(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(start, start + count)]


def planned(desk: Desk, items: Sequence[Item], **keys: Any) -> LabelPlan:
    config = desk.config.model_copy(update=keys)
    return plan_tasks(config, items, [], desk.store.tasks.read(), seed=0)


def test_a_push_adds_each_record_and_a_second_push_none(desk: Desk) -> None:
    told: list[tuple[int, int]] = []
    first = push(
        desk.client, desk.store, planned(desk, pairs(5)), progress=lambda *at: told.append(at)
    )
    assert (first.added, first.present, first.refused) == (5, 0, [])
    assert told[-1] == (5, 5)
    before = desk.records()
    second = push(desk.client, desk.store, planned(desk, pairs(8)))
    assert (second.added, second.present) == (3, 5)
    after = desk.records()
    assert {key: after[key] for key in before} == before
    assert {task.id for task in desk.store.tasks.read()} == set(after)


def test_a_record_shows_what_was_planned_and_hides_the_rest(desk: Desk) -> None:
    (task,) = desk.push(pairs(1))
    record = desk.records()[task.id]
    messages, answers = shown_texts(record["fields"])
    assert messages == [{"role": "user", "content": "Question 0?"}]
    assert answers == [candidate.completion.text for candidate in task.candidates]
    assert record["metadata"] == {"shown": list(task.shown), "mirrored": "no"}
    url = f"/me/datasets/{desk.dataset_id}/records/search"
    (seen,) = desk.clients["ann"].post(url, {})["items"]
    assert seen["record"]["metadata"] in ({}, None)
    assert set(seen["record"]["fields"]) == {FIELD}


def test_texts_of_every_kind_are_shown_literally_and_keep_their_identity(desk: Desk) -> None:
    nasty = "<b>x</b></script><script>alert(1)</script> **md** $& #TEMPLATE# \x00 &lt; 🌊 مرحبا"
    prompt, (first, second) = item("Say </script> it", nasty, "plain")
    (task,) = desk.push([(prompt, [first, second])])
    _, answers = shown_texts(desk.records()[task.id]["fields"])
    assert nasty.replace("\x00", "␀") in answers
    (stored,) = desk.store.tasks.read()
    assert {c.text_id for c in stored.candidates} == {first.text_id, second.text_id}
    assert nasty in {c.completion.text for c in stored.candidates}


def test_a_plan_without_records_sends_no_request(tmp_path: Path, desk: Desk) -> None:
    nowhere = Client("http://127.0.0.1:9", "key", sleep=lambda seconds: pytest.fail("a request"))
    pushed = push(nowhere, AnnotationStore(tmp_path / "other"), planned(desk, []))
    assert (pushed.datasets, pushed.refused, pushed.added) == ([], [], 0)


def test_what_cannot_be_sent_is_named_with_its_reason_and_the_rest_goes_in_full_batches(
    desk: Desk, monkeypatch: Any
) -> None:
    monkeypatch.setattr(push_module, "BATCH_RECORDS", 2)
    forgotten = item("Forgotten?", "a", "b")
    desk.store.forget_prompt(forgotten[0].id)
    large = item("Large?", "x" * 1_100_000, "y")
    halves = [item(f"Half {n}?", "half \ud83d of a pair", "whole") for n in range(3)]
    plan = planned(desk, [*pairs(4), forgotten, large, *halves])
    sendable = next(task for task in plan.tasks if "Question" in str(task.prompt.messages))
    plan = plan._replace(tasks=[*plan.tasks, sendable])
    told: list[int] = []
    pushed = push(desk.client, desk.store, plan, progress=lambda done, total: told.append(done))
    reasons = Counter(refused.reason for refused in pushed.refused)
    assert reasons == Counter(NOT_UNICODE=3, FORGOTTEN=1, TOO_LARGE=1, DUPLICATE=1)
    assert pushed.added == 4
    assert told == [0, 2, 4]
    assert all(len(refused.message) < 200 for refused in pushed.refused)


def test_missing_people_are_named_before_anything_is_sent_or_stored(desk: Desk) -> None:
    (name, group), *_ = desk.config.workspaces.items()
    people = (*group.annotators, "ghost-1", "ghost-2")
    config = desk.config.model_copy(
        update={"workspaces": {name: group.model_copy(update={"annotators": people})}}
    )
    plan = plan_tasks(config, pairs(2), [], [], seed=0)
    with pytest.raises(ValueError, match=r"'ghost-1', annotator 'ghost-2'"):
        push(desk.client, desk.store, plan)
    assert list(desk.store.tasks.read()) == []
    assert desk.client.datasets(desk.client.workspaces()[name]) == []


def test_a_record_that_shows_another_order_is_refused_and_left_alone(
    desk: Desk, tmp_path: Path
) -> None:
    (task,) = desk.push(pairs(1))
    before = desk.records()
    turned = task.model_copy(update={"candidates": task.candidates[::-1]})
    plan = planned(desk, pairs(1))._replace(tasks=[turned])
    store = AnnotationStore(tmp_path / "lost")
    pushed = push(desk.client, store, plan)
    ((task_id, reason, message),) = pushed.refused
    assert (task_id, reason) == (task.id, "SHOWN_DIFFERENTLY")
    assert "another order" in message
    assert (pushed.added, pushed.present) == (0, 0)
    assert desk.records() == before
    assert list(store.tasks.read()) == [], "its answers could only be misread"


def test_gold_questions_look_like_all_others(desk: Desk) -> None:
    gold = []
    for prompt, (chosen, rejected) in pairs(10, start=100):
        gold.append(PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, strategy="g"))
    config = desk.config.model_copy(update={"gold": GoldConfig(path="g", rate=0.5)})
    plan = plan_tasks(config, pairs(10), gold, [], seed=0)
    push(desk.client, desk.store, plan)
    golden = {task.id for task in plan.tasks if task.purpose == "gold"}
    assert len(golden) == 10
    url = f"/me/datasets/{desk.dataset_id}/records/search?limit=50"
    shapes = set()
    for found in desk.clients["ann"].post(url, {})["items"]:
        record = found["record"]
        varying = {"id", "external_id", "fields", "inserted_at", "updated_at"}
        assert len(record["external_id"]) == len("l-") + 20
        shapes.add(json.dumps({k: v for k, v in record.items() if k not in varying}))
    assert len(shapes) == 1


def test_annotators_see_the_records_of_their_workspace_alone(
    argilla_server: Any, tmp_path: Path
) -> None:
    one = Desk(argilla_server.url, argilla_server.api_key, tmp_path / "1", ["ann"], overlap=1)
    two = Desk(argilla_server.url, argilla_server.api_key, tmp_path / "2", ["bob"], overlap=1)
    one.push(pairs(2))
    two.push(pairs(2))
    names = {dataset["name"] for dataset in two.clients["bob"].datasets()}
    assert names == {f"prefs-{two.mark}"}
    with pytest.raises(PermissionError):
        two.clients["bob"].post(f"/me/datasets/{one.dataset_id}/records/search", {})


def test_a_follow_up_reaches_one_person_alone(desk: Desk) -> None:
    desk.push(pairs(2))
    prompt, (first, second) = pairs(1)[0]
    left, right = sorted((first.text_id, second.text_id))
    plan = follow_up_tasks(
        desk.config,
        [(prompt, first, second)],
        {(prompt.id, left, right): {desk.people["ann"]}},
        list(desk.store.tasks.read()),
        seed=0,
        number=1,
    )
    with pytest.raises(ValueError, match=f"lacks workspace 'follow-up-{desk.people['bob']}'"):
        push(desk.client, desk.store, plan)
    ensure_workspaces(desk.client, plan.config)
    (made,) = push(desk.client, desk.store, plan).datasets
    assert (made.dataset, made.added) == (f"prefs-{desk.mark}-next-1", 1)
    assert made.workspace == f"follow-up-{desk.people['bob']}"
    settings = desk.client.get(f"/datasets/{made.id}")
    assert settings["distribution"]["min_submitted"] == 1
    assert len(desk.records()) == 2
    seen = {who: {one["name"] for one in desk.clients[who].datasets()} for who in desk.people}
    assert seen["bob"] - seen["ann"] == {made.dataset}


def test_rankings_of_each_size_are_datasets_of_their_own(desk: Desk) -> None:
    config = desk.config.model_copy(update={"kind": "ranking"})
    items = [item("Two?", "a", "b"), item("Three?", "a", "b", "c")]
    pushed = push(desk.client, desk.store, plan_tasks(config, items, [], [], seed=0))
    found = {made.dataset: made.id for made in pushed.datasets}
    assert set(found) == {f"prefs-{desk.mark}-rank-2", f"prefs-{desk.mark}-rank-3"}
    questions = desk.client.get(f"/datasets/{found[f'prefs-{desk.mark}-rank-3']}/questions")
    overall = next(q for q in questions["items"] if q["name"] == "overall")
    assert [option["value"] for option in overall["settings"]["options"]] == ["1", "2", "3"]


class Lossy:
    """Passes requests on to the server; the answers to some bulk requests are lost."""

    def __init__(self, url: str, lose: Sequence[int]) -> None:
        self.bulk = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kept = {"X-Argilla-Api-Key", "Content-Type"}
                headers = {name: self.headers[name] for name in kept if name in self.headers}
                answer = httpx.request(
                    self.command, url + self.path, content=body, headers=headers, timeout=60
                )
                if self.path.endswith("/records/bulk"):
                    proxy.bulk += 1
                    if proxy.bulk in lose:
                        self.close_connection = True
                        return
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def lossy(argilla_server: Any) -> Iterator[Lossy]:
    proxy = Lossy(argilla_server.url, lose=[2, 3])
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


def test_a_batch_whose_answer_was_lost_is_sent_again_without_a_record_twice(
    desk: Desk, argilla_server: Any, lossy: Lossy, monkeypatch: Any
) -> None:
    monkeypatch.setattr(push_module, "BATCH_RECORDS", 3)
    through = Client(lossy.url, argilla_server.api_key, sleep=lambda seconds: None)
    pushed = push(through, desk.store, planned(desk, pairs(12)))
    assert pushed.added == 12
    assert lossy.bulk == 4 + 2
    assert desk.client.get(f"/datasets/{desk.dataset_id}/records")["total"] == 12


def test_two_first_pushes_at_once_from_two_machines_add_each_record_once(
    desk: Desk, argilla_server: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(push_module, "BATCH_RECORDS", 3)
    plan = planned(desk, pairs(30))
    failures: list[BaseException] = []

    def run(tasks: list[LabelTask], folder: Path) -> None:
        try:
            with Client(desk.client.url, argilla_server.api_key) as client:
                push(client, AnnotationStore(folder), plan._replace(tasks=tasks))
        except BaseException as error:
            failures.append(error)

    # Each begins at another end, so that they meet in the middle of batches.
    both = [
        threading.Thread(target=run, args=(tasks, tmp_path / name))
        for tasks, name in ((plan.tasks, "here"), (plan.tasks[::-1], "there"))
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert failures == []
    assert desk.client.get(f"/datasets/{desk.dataset_id}/records")["total"] == 30


def test_a_push_waits_for_another_with_the_same_store_and_then_says_so(
    desk: Desk, monkeypatch: Any
) -> None:
    monkeypatch.setattr(push_module, "PATIENCE", 0.3)
    desk.store.folder.mkdir(parents=True, exist_ok=True)
    with open(desk.store.folder / ".push.lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"another push .* push again when it is done"):
            push(desk.client, desk.store, planned(desk, pairs(1)))
    assert push(desk.client, desk.store, planned(desk, pairs(1))).added == 1


PUSHER = """
import sys
from pathlib import Path
from curation.argilla import push as module
from curation.argilla.client import Client
from curation.argilla.tasks import plan_tasks
from schemas.annotations import AnnotationStore
from schemas.configs import LabelConfig
from tests.curation.argilla.test_push import pairs
url, key, folder, config = sys.argv[1:]
config = LabelConfig.model_validate_json(config)
module.BATCH_RECORDS = 5
store = AnnotationStore(Path(folder))
plan = plan_tasks(config, pairs(120), [], store.tasks.read(), seed=0)
module.push(Client(url, key), store, plan, progress=lambda done, total: print(done, flush=True))
"""


def test_a_push_after_a_kill_goes_on_where_it_ended(desk: Desk, argilla_server: Any) -> None:
    arguments = [
        argilla_server.url,
        argilla_server.api_key,
        str(desk.store.folder),
        desk.config.model_dump_json(),
    ]
    for number in range(3):
        pusher = subprocess.Popen(
            [sys.executable, "-c", PUSHER, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert pusher.stdout is not None
        for line in pusher.stdout:
            if int(line) >= 25 * (number + 1):
                break
        time.sleep(0.03 * number)
        os.kill(pusher.pid, signal.SIGKILL)
        pusher.wait()
        pusher.stdout.close()
    stored = {task.id: task for task in desk.store.tasks.read()}
    assert len(stored) == 120, "the store knows each task before the server does"
    pushed = push(desk.client, desk.store, planned(desk, pairs(120)))
    assert 0 < pushed.added < 120
    assert pushed.added + pushed.present == 120
    records = desk.records()
    assert desk.client.get(f"/datasets/{desk.dataset_id}/records")["total"] == 120
    assert all(records[task.id]["fields"] == record_fields(task) for task in stored.values())
