"""What annotators do not get to see, and what a text cannot do to them, in a real browser."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.suggest import suggest
from curation.argilla.tasks import plan_tasks
from schemas.configs import GoldConfig
from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    Judgement,
    Message,
    Origin,
    PreferencePair,
    Prompt,
)
from tests.browser.page import LabellingPage
from tests.browser.people import (
    TIE,
    MakeDesk,
    Window,
    at_work,
    better,
    dataset_id,
    pairs,
    right,
    verdicts,
)
from tests.curation.argilla.desk import item

pytestmark = pytest.mark.browser


def test_markup_in_a_text_is_shown_and_never_run(make_desk: MakeDesk, window: Window) -> None:
    attack = (
        "</script><script>alert(1); parent.harm = 1</script>"
        "<img src=https://elsewhere.example/x onerror=alert(2)> "
        "**bold** &lt; $& #TEMPLATE# {{record}}"
    )
    prompt = Prompt(
        messages=(
            Message(role="system", content=f"Be brief. {attack}"),
            Message(role="user", content="Hello"),
            Message(role="assistant", content=attack),
            Message(role="user", content=f"And now? {attack}"),
        )
    )
    answers = [f"right {attack}", "wrong <b>but</b> <!-- harmless --> مرحبا 👩‍👩‍👧‍👦"]
    desk = make_desk()
    desk.push([(prompt, candidates(prompt, *answers))])
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    assert screen.messages == [(turn.role, turn.content) for turn in prompt.messages]
    assert sorted(screen.answers.values()) == sorted(answers)
    assert page.page.evaluate("window.harm") is None
    page.click(better(screen, right(screen)))
    page.submit()
    assert verdicts(desk) == {prompt.messages[-1].content: answers[0]}


def test_an_annotators_browser_receives_nothing_hidden(
    make_desk: MakeDesk, window: Window, tmp_path: Path
) -> None:
    desk = make_desk(gold=GoldConfig(path="gold.jsonl", rate=0.5), mirror=True)
    gold = [golden_pair(n) for n in range(4)]
    asked = [(p, candidates(p, f"right {n}", f"wrong {n}")) for n, p in enumerate(prompts(4))]
    plan = plan_tasks(desk.config, asked, gold, desk.store.tasks.read(), seed=0)
    push(desk.client, desk.store, plan)
    assert sum(task.purpose == "gold" for task in plan.tasks) >= 2
    assert any(task.mirrored for task in plan.tasks)
    archive = tmp_path / "traffic.har"
    page = at_work(window, desk, record_har_path=str(archive), record_har_content="embed")
    page.home()
    page.open(dataset_id(desk))
    while not page.finished:
        page.submit("1", "Enter")
    page.open(dataset_id(desk), status="submitted")
    page.page.wait_for_load_state("networkidle")
    page.close()

    received = api_texts(archive)
    everything = "\n".join(received.values())
    assert "right 0" in everything
    assert {task.id for task in plan.tasks} <= set(json_strings(received))
    hidden = {"secret-model", "gold", "mirrored", "expected", "p_chosen", "Order shown", '"shown"'}
    hidden |= {item for task in plan.tasks for item in (*task.shown, task.prompt.id)}
    hidden |= {candidate.id for task in plan.tasks for candidate in task.candidates}
    assert {word for word in hidden if word in everything} == set()


def test_an_annotator_of_another_workspace_sees_nothing(
    make_desk: MakeDesk, window: Window
) -> None:
    desk, other = make_desk(), make_desk()
    desk.push(pairs(2))
    other.push([item("Elsewhere?", "right here", "wrong here")])
    page = at_work(window, other)
    assert other.mark in page.home()
    assert desk.mark not in page.home()
    page.page.goto(f"{page.url}/dataset/{dataset_id(desk)}/annotation-mode?page=1&status=pending")
    page.page.wait_for_load_state("networkidle")
    assert "Question" not in page.page.inner_text("body")
    assert page.open(dataset_id(other)).question == "Elsewhere?"


def test_a_suggestion_appears_only_once_all_have_answered(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk(people=("ann", "bob"), overlap=2)
    (task,) = desk.push(pairs(1))
    preferred = task.candidates[0]
    scores = tuple(float(candidate is preferred) for candidate in task.candidates)
    machine = Judgement(
        prompt_id=task.prompt.id,
        annotator=Annotator(kind="reward_model", name="rm-v1"),
        candidates=task.shown,
        scores=scores,
    )

    def attach() -> int:
        return suggest(desk.client, desk.store, desk.config, [machine]).attached

    ann, bob = (at_work(window, desk, who) for who in ("ann", "bob"))
    assert attach() == 0
    screen = ann.open(dataset_id(desk))
    assert ann.chosen() == []
    assert not suggested(ann)
    ann.click(TIE)
    ann.submit()
    assert attach() == 0
    bob.open(dataset_id(desk))
    assert bob.chosen() == []
    assert not suggested(bob)
    bob.click(better(screen, preferred.completion.text))
    bob.submit()

    assert attach() == 1
    ann.open(dataset_id(desk), status="submitted")
    assert suggested(ann)
    assert ann.chosen() == ["overall_tie"]
    pulled = pull(desk.client, desk.store)
    assert (pulled.counts["NEW"], pulled.counts["SUGGESTION"]) == (2, 1)
    assert {judgement.mode for judgement in desk.store.judgements.read()} == {"blind"}


def suggested(page: LabellingPage) -> bool:
    """Whether the page marks an option as a machine's."""
    return "rm-v1" in page.page.content() or page.page.locator(".suggestion-icon").count() > 0


def candidates(prompt: Prompt, *texts: str) -> list[Candidate]:
    origin = Origin(generator="transformers", model="secret-model-7b", weights="secret-model-hash")
    return [
        Candidate(prompt_id=prompt.id, completion=Completion.from_text(text), origin=origin)
        for text in texts
    ]


def prompts(count: int) -> list[Prompt]:
    return [
        Prompt(messages=(Message(role="user", content=f"Question {n}?"),)) for n in range(count)
    ]


def golden_pair(number: int) -> PreferencePair:
    prompt = Prompt(messages=(Message(role="user", content=f"What is {number} + 1?"),))
    chosen, rejected = candidates(prompt, f"right: {number + 1}", f"wrong: {number}")
    return PreferencePair(
        prompt=prompt, chosen=chosen, rejected=rejected, p_chosen=1.0, strategy="import"
    )


def api_texts(archive: Path) -> dict[str, str]:
    """The body of each answer of the server's API that the browser received, by URL and turn."""
    entries = json.loads(archive.read_text("utf-8"))["log"]["entries"]
    texts = {}
    for turn, entry in enumerate(entries):
        content = entry["response"]["content"]
        if "/api/" in entry["request"]["url"]:
            body = content.get("text", "")
            if content.get("encoding") == "base64":
                body = b64decode(body).decode("utf-8")
            texts[f"{entry['request']['url']} {turn}"] = body
    return texts


def json_strings(received: dict[str, str]) -> list[str]:
    """Every string in the JSON bodies."""

    def walk(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.values() for text in walk(item)]
        if isinstance(value, list):
            return [text for item in value for text in walk(item)]
        return [value] if isinstance(value, str) else []

    return [text for body in received.values() if body for text in walk(json.loads(body))]
