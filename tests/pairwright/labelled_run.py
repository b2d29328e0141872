"""Answers of made-up people to made-up prompts, and the stages of a run that hold them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curation.agreement import agreement_of_judgements
from curation.annotators import annotator_report
from curation.gold import MethodAccuracy
from curation.votes import counted_judgements
from schemas.labels import LabelTask
from schemas.records import Annotator, Candidate, Completion, Judgement, Message, Origin, Prompt

Answer = Callable[[int], tuple[int, int]]
"""The ranks that somebody gives the two answers of a prompt, by the prompt's number."""


def right(number: int) -> tuple[int, int]:
    """The lesser id is better in the first two of each four pairs, the greater in the others."""
    return (1, 2) if number // 2 % 2 == 0 else (2, 1)


def wrong_at_times(number: int) -> tuple[int, int]:
    return right(number)[::-1] if number % 5 == 0 else right(number)


def always_tie(number: int) -> tuple[int, int]:
    return (1, 1)


def make_task(number: int, *, gold: bool = False) -> LabelTask:
    """A pair shown in the order of its ids on even numbers, and in the other on odd ones."""
    prompt = Prompt(messages=(Message(role="user", content=f"Which? {gold} {number}"),))
    pair = sorted(
        (
            Candidate(
                prompt_id=prompt.id,
                completion=Completion.from_text(text),
                origin=Origin(generator="test"),
            )
            for text in (f"one {number}", f"another, longer one {number}")
        ),
        key=lambda candidate: candidate.text_id,
    )
    turned = number % 2 == 1
    expected = right(number)[::-1] if turned else right(number)
    return LabelTask(
        dataset="prefs",
        workspace="team",
        prompt=prompt,
        candidates=tuple(pair[::-1] if turned else pair),
        purpose="gold" if gold else "label",
        expected=expected if gold else None,
        overlap=3,
    )


def answers(name: str, tasks: Sequence[LabelTask], answer: Answer) -> list[Judgement]:
    judgements = []
    for number, task in enumerate(tasks):
        ranks = answer(number)
        shown_in_order = list(task.shown) == sorted(task.shown)
        judgements.append(
            Judgement(
                prompt_id=task.prompt.id,
                annotator=Annotator(kind="human", name=name),
                candidates=task.shown,
                ranks=ranks if shown_in_order else ranks[::-1],
                task_id=task.id,
                purpose=task.purpose,
            )
        )
    return judgements


class Panel:
    """What the annotators, each with a way to answer, say about 40 pairs and some gold ones."""

    def __init__(self, people: Mapping[str, Answer], *, gold: int = 4) -> None:
        self.tasks = [make_task(number) for number in range(40)]
        self.gold_tasks = [make_task(number, gold=True) for number in range(gold)]
        self.judgements = [
            item for name, answer in people.items() for item in answers(name, self.tasks, answer)
        ]
        self.gold_judgements = [
            item
            for name, answer in people.items()
            for item in answers(name, self.gold_tasks, answer)
        ]
        self.simulated = [name for name in people if name.startswith("simulated-")]

    @property
    def counts(self) -> dict[str, int]:
        return {
            "tasks": len(self.tasks) + len(self.gold_tasks),
            "judgements": len(self.judgements),
            "gold_judgements": len(self.gold_judgements),
            "annotators": len({item.annotator.name for item in self.judgements}),
        }

    def facts(
        self, *, excluded: Mapping[str, str] | None = None, methods: Sequence[MethodAccuracy] = ()
    ) -> dict[str, Any]:
        excluded = excluded or {}
        said = [*self.judgements, *self.gold_judgements]
        tasks = [*self.tasks, *self.gold_tasks]
        agreement = agreement_of_judgements(said, excluded=excluded)
        rows = annotator_report(said, tasks, excluded=excluded)
        return {
            "dataset": "Prefs",
            "simulated": self.simulated,
            "tasks": {"gold": len(self.gold_tasks), "label": len(self.tasks)},
            "shown_first": {"1": 20, "2": 20},
            "not_asked": {"TRUNCATED": 2},
            "not_counted": self.not_counted(excluded),
            "excluded": excluded,
            "agreement": {name: one.model_dump(mode="json") for name, one in agreement.items()},
            "annotators": [row.model_dump(mode="json") for row in rows],
            "methods": [row._asdict() for row in methods],
        }

    def not_counted(self, excluded: Mapping[str, str]) -> dict[str, int]:
        said = [*self.judgements, *self.gold_judgements]
        return dict(counted_judgements(said, excluded=excluded).left_out)
