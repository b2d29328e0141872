"""A machine's ranking, attached as a suggestion to records that people have answered.

The page selects a suggestion beforehand and submits it untouched as the person's own answer. So a
record gets one only when it has all the answers it needs, or where the run is declared assisted,
and then every answer is marked so. A record holds one suggestion a question: the first machine's.

What is not attached says why:

- NOT_COMPLETE: people have not finished the record.
- NOT_ON_SERVER: the record was not pushed.
- NOT_RANKED: no machine judged all of the record's answers.
- NO_SCORE: a machine abstained about one of them, or its score is not finite.
- NO_QUESTION: the dataset does not ask what the machine judged.
- PRESENT: the very same suggestion is there already.
- TAKEN: another machine's suggestion is there already.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from curation.argilla.client import Client
from curation.argilla.names import MAX_NAME, dataset_name, slug
from curation.argilla.reading import read_records
from curation.argilla.sharing import dataset_of
from schemas.annotations import AnnotationStore
from schemas.configs import LabelConfig
from schemas.labels import LabelTask
from schemas.records import Judgement

BATCH = 250


class Suggested(NamedTuple):
    """What was attached, and what was not."""

    attached: int
    left_out: Counter[str]


class Opinion(NamedTuple):
    """What one machine says about one task's answers, in the order shown."""

    agent: str
    question: str
    ranks: tuple[int, ...]
    """Dense, 1 is best; equals share a rank."""
    scores: tuple[float, ...] | None
    """In the machine's own units; None where it gave none."""


def suggest(
    client: Client,
    store: AnnotationStore,
    config: LabelConfig,
    judgements: Iterable[Judgement],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Suggested:
    """How many suggestions were attached now; done again it attaches nothing twice.

    Raises:
        ConnectionError: the server went away; do it again.
    """
    if not (config.suggest or config.assisted):
        return Suggested(0, Counter())
    by_prompt: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.annotator.kind != "human":
            by_prompt[judgement.prompt_id].append(judgement)
    groups: dict[tuple[str, str], list[LabelTask]] = defaultdict(list)
    base = dataset_name(config.dataset)
    for task in store.tasks.read():
        if task.follows == base or task.dataset == dataset_of(config, len(task.candidates)):
            groups[task.workspace, task.dataset].append(task)
    left_out: Counter[str] = Counter()
    attached = done = 0
    total = sum(len(tasks) for tasks in groups.values())
    ids = _dataset_ids(client)
    for place, tasks in groups.items():
        if place in ids:
            items = _items(client, ids[place], tasks, by_prompt, left_out)
            for start in range(0, len(items), BATCH):
                batch = items[start : start + BATCH]
                about = f"attach {len(batch)} suggestions to '{place[1]}'"
                client.put(f"/datasets/{ids[place]}/records/bulk", {"items": batch}, about=about)
            attached += sum(len(item["suggestions"]) for item in items)
        else:
            left_out["NOT_ON_SERVER"] += len(tasks)
        done += len(tasks)
        progress(done, total)
    return Suggested(attached, left_out)


def opinions(
    task: LabelTask, judgements: Iterable[Judgement], left_out: Counter[str]
) -> list[Opinion]:
    """Each machine's opinion on each question about the task.

    Judgements of one machine, such as a judge's two about both orders, are averaged.
    """
    grouped: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    scored: dict[tuple[str, str], bool] = {}
    for judgement in judgements:
        if not set(task.shown) <= set(judgement.candidates):
            continue
        key = (judgement.annotator.name, judgement.question)
        values = _values(task, judgement)
        if values is None:
            left_out["NO_SCORE"] += 1
        else:
            has_scores = judgement.scores is not None
            if scored.setdefault(key, has_scores) == has_scores:
                grouped[key].append(values)
    return [
        _opinion(name, question, rows, scored=scored[name, question])
        for (name, question), rows in grouped.items()
    ]


def agent_slug(name: str) -> str:
    """The machine's name as Argilla takes it: `org/RM 8B (v1)` is `org-rm-8b-v1`."""
    return slug(name.lstrip("- ")[:MAX_NAME], what="agent")


def suggestion_value(task: LabelTask, opinion: Opinion) -> tuple[Any, Any]:
    """The value and the score of the suggestion.

    A score is the logistic function of the machine's own: of the margin between the two of a
    pair, and of each answer's score in a ranking. Argilla takes 0 to 1.
    """
    ranks, scores = opinion.ranks, opinion.scores
    if task.kind == "ranking":
        value = [{"value": str(place), "rank": rank} for place, rank in enumerate(ranks, start=1)]
        return value, None if scores is None else [_logistic(score) for score in scores]
    choice = "tie" if ranks[0] == ranks[1] else "a" if ranks[0] < ranks[1] else "b"
    if scores is None:
        return choice, None
    return choice, _logistic(abs(scores[0] - scores[1]))


def _dataset_ids(client: Client) -> dict[tuple[str, str], str]:
    """The server's datasets by workspace and name."""
    workspaces = client.workspace_names()
    return {
        (workspaces[item["workspace_id"]], item["name"]): item["id"] for item in client.datasets()
    }


def _items(
    client: Client,
    dataset_id: str,
    tasks: Sequence[LabelTask],
    judgements: Mapping[str, Sequence[Judgement]],
    left_out: Counter[str],
) -> list[dict[str, Any]]:
    """The records that get suggestions, with them, as the server takes them."""
    questions = {
        item["name"]: item["id"]
        for item in client.get(f"/datasets/{dataset_id}/questions")["items"]
    }
    rows = read_records(client, dataset_id, lambda item: item)
    there = {row["external_id"]: row for row in rows}
    items = []
    for task in tasks:
        row = there.get(task.id)
        if row is None:
            left_out["NOT_ON_SERVER"] += 1
            continue
        if row["status"] != "completed" and not task.assisted:
            left_out["NOT_COMPLETE"] += 1
            continue
        before = Counter(left_out)
        found = opinions(task, judgements.get(task.prompt.id, ()), left_out)
        if not found and left_out == before:
            left_out["NOT_RANKED"] += 1
        taken = {item["question_id"]: item for item in row.get("suggestions") or ()}
        suggestions = []
        for opinion in found:
            question_id = questions.get(opinion.question)
            agent = agent_slug(opinion.agent)
            value, score = suggestion_value(task, opinion)
            if question_id is None:
                left_out["NO_QUESTION"] += 1
            elif question_id in taken:
                held = taken[question_id]
                same = (held["agent"], held["value"]) == (agent, value)
                left_out["PRESENT" if same else "TAKEN"] += 1
            else:
                made = {"question_id": question_id, "type": "model", "agent": agent}
                made |= {"value": value, "score": score}
                taken[question_id] = made
                suggestions.append(made)
        if suggestions:
            items.append({"id": row["id"], "suggestions": suggestions})
    return items


def _values(task: LabelTask, judgement: Judgement) -> list[float] | None:
    """A number an answer, higher is better, in the order shown; None where one is missing."""
    given: Sequence[float | None] | None = judgement.scores
    if given is None:
        if judgement.ranks is None:
            return None
        given = [-float(rank) for rank in judgement.ranks]
    by_text = dict(zip(judgement.candidates, given, strict=True))
    values = [by_text[text_id] for text_id in task.shown]
    found = [value for value in values if value is not None and math.isfinite(value)]
    return found if len(found) == len(values) else None


def _opinion(name: str, question: str, rows: Sequence[list[float]], *, scored: bool) -> Opinion:
    columns = list(zip(*rows, strict=True))
    # Ranks are averaged, not scores: a judge that says 9:1 and then 1:9 contradicts itself.
    places = [_ranks(row) for row in rows]
    average = [-sum(column) / len(rows) for column in zip(*places, strict=True)]
    scores = tuple(sum(column) / len(rows) for column in columns)
    return Opinion(name, question, _ranks(average), scores if scored else None)


def _ranks(values: Sequence[float]) -> tuple[int, ...]:
    order = sorted(set(values), reverse=True)
    return tuple(order.index(value) + 1 for value in values)


def _logistic(score: float) -> float:
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    return math.exp(score) / (1 + math.exp(score))
