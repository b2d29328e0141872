"""Scripts in people's place, for demos and tests, which work over the labelling page's own API.

Each signs in as its own account and sees what the page would show it: texts, and nothing of where
they come from. What a person would understand of them is a function of these texts; how often the
script answers by it is its declared accuracy.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from curation.argilla.answers import CHOICES
from curation.argilla.client import Client
from curation.argilla.settings import shown_texts
from schemas.configs import SimulatedAnnotator
from schemas.records import content_hash

PREFIX = "simulated-"
"""Begins the user names, so that nobody takes their answers for people's."""

PAGE = 50
"""Records a script opens at once; the server takes at most 100 answers in one request."""

Judge = Callable[[list[dict[str, str]], list[str]], Sequence[float | None]]
"""How good each answer to the conversation is, higher is better; None: a person could not say."""


class Answered(NamedTuple):
    """What one script did."""

    annotator: str
    submitted: int
    discarded: int
    """Records with an answer that the judge could not score."""


def answer_all(
    client: Client,
    annotators: Sequence[SimulatedAnnotator],
    judge: Judge,
    *,
    seed: int,
    datasets: Collection[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Answered]:
    """What each script answered, until none has a pending record in the datasets named.

    Without names it is every dataset of its workspaces, people's too where they share one.
    `client` is an owner's and serves to sign the scripts in. They take turns, a page each, so that
    no record gets more answers than it needs. An answer depends on the seed, the script's name and
    the texts shown, not on the order in which the server serves them.

    Raises:
        ValueError: a name does not say that it is simulated, an account is missing, or the server
            refuses an answer.
    """
    workers = [
        _Worker(Client(client.url, key), annotator, judge, seed, datasets)
        for annotator, key in _keys(client, annotators)
    ]
    busy = list(workers)
    while busy:
        busy = [worker for worker in busy if worker.answer_page()]
        progress(f"simulated answers: {sum(worker.submitted for worker in workers)}")
    for worker in workers:
        worker.client.close()
    return [
        Answered(worker.annotator.name, worker.submitted, worker.discarded) for worker in workers
    ]


def noisy_ranks(scores: Sequence[float], accuracy: float, rng: Random) -> tuple[int, ...]:
    """Dense ranks of the scores, of whose comparisons a share of about `accuracy` is right.

    Equal scores tie, or with the same chance of error come in any order. For two answers the share
    is exact; for more, the levels of score are shuffled by the Mallows model (Mallows 1957) that
    has it on average.
    """
    levels = sorted(set(scores), reverse=True)
    if accuracy < 0.5:
        levels.reverse()
    order: list[float] = []
    weight = _mallows_weight(len(levels), max(accuracy, 1 - accuracy))
    for count, level in enumerate(levels):
        steps = rng.choices(range(count + 1), [weight**step for step in range(count + 1)])[0]
        order.insert(count - steps, level)
    ranks = [0] * len(scores)
    rank = 0
    for level in order:
        tied = [index for index, score in enumerate(scores) if score == level]
        apart = len(tied) > 1 and rng.random() >= accuracy
        if apart:
            rng.shuffle(tied)
        for place, index in enumerate(tied):
            rank += place == 0 or apart
            ranks[index] = rank
    return tuple(ranks)


def _mallows_weight(count: int, accuracy: float) -> float:
    """The weight of one step out of order at which pairs are in order as often as `accuracy`."""
    pairs = count * (count - 1) / 2
    if not pairs:
        return 0.0

    def share_out_of_order(weight: float) -> float:
        return sum(_mean_steps(places, weight) for places in range(1, count + 1)) / pairs

    grid = 10_000
    return bisect_left(range(grid), 1 - accuracy, key=lambda x: share_out_of_order(x / grid)) / grid


def _mean_steps(places: int, weight: float) -> float:
    weights = [weight**step for step in range(places)]
    return sum(step * each for step, each in enumerate(weights)) / sum(weights)


class _Worker:
    """One script at its page."""

    def __init__(
        self,
        client: Client,
        annotator: SimulatedAnnotator,
        judge: Judge,
        seed: int,
        datasets: Collection[str] | None,
    ) -> None:
        self.client = client
        self.annotator = annotator
        self.submitted = 0
        self.discarded = 0
        self._judge = judge
        self._seed = seed
        self._datasets = [
            dataset
            for dataset in client.datasets()
            if datasets is None or dataset["name"] in datasets
        ]
        self._questions: dict[str, list[dict[str, Any]]] = {}

    def answer_page(self) -> bool:
        """Whether there was a page of pending records to answer."""
        while self._datasets:
            dataset_id = self._datasets[0]["id"]
            records = self._pending(dataset_id)
            if records:
                self._send([self._response(dataset_id, record) for record in records])
                return True
            self._datasets.pop(0)
        return False

    def _pending(self, dataset_id: str) -> list[dict[str, Any]]:
        """The first page of what is still to be answered, asked for as the page asks."""
        pending = [
            {
                "type": "terms",
                "scope": {"entity": entity, "property": "status"},
                "values": ["pending"],
            }
            for entity in ("response", "record")
        ]
        path = f"/me/datasets/{dataset_id}/records/search"
        asked = f"{path}?include=responses&include=suggestions&offset=0&limit={PAGE}"
        found = self.client.post(asked, {"query": {}, "filters": {"and": pending}}, about=path)
        return [item["record"] for item in found["items"]]

    def _send(self, responses: list[dict[str, Any]]) -> None:
        sent = self.client.post(
            "/me/responses/bulk", {"items": responses}, about=f"answers of {self.annotator.name}"
        )
        for response, result in zip(responses, sent["items"], strict=True):
            if result["error"] is not None:
                raise ValueError(
                    f"the server refused the answer of '{self.annotator.name}' to record "
                    f"{response['record_id']}: {result['error']['detail'][:300]}"
                )
        submitted = sum(response["status"] == "submitted" for response in responses)
        self.submitted += submitted
        self.discarded += len(responses) - submitted

    def _response(self, dataset_id: str, record: dict[str, Any]) -> dict[str, Any]:
        messages, texts = shown_texts(record["fields"])
        values = {}
        for question in self._answerable(dataset_id):
            ranks = self._ranks(question["name"], messages, texts)
            if ranks is None:
                return {"record_id": record["id"], "status": "discarded", "values": {}}
            values[question["name"]] = {"value": _value(question, ranks)}
        return {"record_id": record["id"], "status": "submitted", "values": values}

    def _ranks(
        self, question: str, messages: list[dict[str, str]], texts: list[str]
    ) -> tuple[int, ...] | None:
        if self.annotator.spammer:
            return tuple(range(1, len(texts) + 1))
        scores = self._judge(messages, texts)
        known = [score for score in scores if score is not None]
        if len(known) < len(texts):
            return None
        rng = Random(content_hash(self._seed, self.annotator.name, question, messages, texts))
        return noisy_ranks(known, self.annotator.accuracy, rng)

    def _answerable(self, dataset_id: str) -> list[dict[str, Any]]:
        if dataset_id not in self._questions:
            items = self.client.get(f"/datasets/{dataset_id}/questions")["items"]
            self._questions[dataset_id] = [item for item in items if item["required"]]
        return self._questions[dataset_id]


def _value(question: Mapping[str, Any], ranks: tuple[int, ...]) -> Any:
    """The ranks as the page would send them."""
    if question["settings"]["type"] == "ranking":
        return [{"value": str(n), "rank": rank} for n, rank in enumerate(ranks, start=1)]
    return next(value for value, meant in CHOICES.items() if meant == ranks)


def _keys(
    client: Client, annotators: Sequence[SimulatedAnnotator]
) -> Iterator[tuple[SimulatedAnnotator, str]]:
    keys = {user["username"]: user["api_key"] for user in client.get("/users")["items"]}
    for annotator in annotators:
        if not annotator.name.startswith(PREFIX):
            raise ValueError(
                f"simulated annotator '{annotator.name}': the name must begin with '{PREFIX}', so "
                "that nobody takes its answers for a person's"
            )
        if annotator.name not in keys:
            raise ValueError(
                f"simulated annotator '{annotator.name}' has no account on the server; list it "
                "under label.workspaces, then push"
            )
        yield annotator, keys[annotator.name]
