"""People at the labelling page who know the texts alone, and what came back of their answers."""

from collections.abc import Callable
from typing import Any

from curation.argilla.pull import pull
from curation.votes import counted_judgements
from schemas.labels import LabelTask
from schemas.records import Candidate, Judgement, Prompt
from tests.browser.page import LabellingPage, Screen
from tests.curation.argilla.desk import Desk, item

Window = Callable[..., LabellingPage]
MakeDesk = Callable[..., Desk]
A, B, TIE, BOTH_BAD = "A is better", "B is better", "Tie", "Both are bad"


def pairs(count: int) -> list[tuple[Prompt, list[Candidate]]]:
    return [item(f"Question {n}?", f"right {n}", f"wrong {n}") for n in range(count)]


def at_work(window: Window, desk: Desk, who: str = "ann", **options: Any) -> LabellingPage:
    """A window in which the person has signed in."""
    page = window(**options)
    page.sign_in(desk.people[who], desk.passwords[desk.people[who]])
    return page


def dataset_id(desk: Desk) -> str:
    (found,) = [item["id"] for item in desk.client.datasets() if desk.mark in item["name"]]
    return str(found)


def right(screen: Screen) -> str:
    """The text that a person finds better, read off the screen."""
    (text,) = [text for text in screen.answers.values() if text.startswith("right")]
    return text


def wrong(screen: Screen) -> str:
    (text,) = [text for text in screen.answers.values() if text.startswith("wrong")]
    return text


def better(screen: Screen, text: str) -> str:
    """The option that says the answer with this text is better."""
    return f"{screen.title_of(text)} is better"


def verdicts(desk: Desk, question: str = "overall") -> dict[str, str | list[list[str]]]:
    """By question text: the better text, `tie` or `both bad`; for a ranking the texts by place."""
    pull(desk.client, desk.store)
    tasks = {task.id: task for task in desk.store.tasks.read()}
    judgements = counted_judgements(desk.store.judgements.read(), question=question).kept
    return {
        tasks[str(judgement.task_id)].prompt.messages[-1].content or "": _verdict(
            tasks[str(judgement.task_id)], judgement
        )
        for judgement in judgements
    }


def _verdict(task: LabelTask, judgement: Judgement) -> str | list[list[str]]:
    texts = {candidate.text_id: candidate.completion.text for candidate in task.candidates}
    places: dict[int, list[str]] = {}
    for text_id, rank in zip(judgement.candidates, judgement.ranks or (), strict=True):
        places.setdefault(rank, []).append(texts[text_id])
    if task.kind == "ranking":
        return [sorted(places[rank]) for rank in sorted(places)]
    if judgement.both_bad:
        return "both bad"
    return "tie" if len(places[1]) == 2 else places[1][0]
