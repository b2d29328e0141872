"""Planted people: four scripts that read the page's words and press the page's buttons.

Two know what was planted, one errs in every answer, and the fourth only leaves what must not count.
They find an answer by the title above it and a button by its text, as a person does, and use none
of the code that reads answers back. What each said is kept by words, to be held against the store.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pairwright.selftest.planted import Opinions, answer, words

if TYPE_CHECKING:
    from curation.argilla.client import Client

FIRST, SECOND, WRONG, FOURTH = (
    "simulated-first",
    "simulated-second",
    "simulated-wrong",
    "simulated-fourth",
)
PEOPLE = (FIRST, SECOND, WRONG, FOURTH)
CRITERION = "Form"
"""Everybody prefers the form of what they find worse, so a criterion that is mixed up shows."""
OVERLAP = 3
"""Answers a record: two right ones and a wrong one."""

Status = Literal["submitted", "draft", "discarded"]


class Asked(NamedTuple):
    """Who was asked what, by words."""

    person: str
    question: str
    prompt: str
    answers: frozenset[str]


class Said(NamedTuple):
    """An answer, by words: dense ranks, 1 the best."""

    ranks: frozenset[tuple[str, int]]
    both_bad: bool


class _Page(NamedTuple):
    """One record as it is on the screen of one person."""

    dataset: str
    record: str
    turns: list[dict[str, str]]
    texts: dict[str, str]
    """Answers by the title above them."""


class Panel:
    """The four, at a server that asks them about planted prompts.

    `client` is an owner's, and serves to sign them in.
    """

    def __init__(self, client: "Client", dataset: str, opinions: Opinions) -> None:
        self.said: dict[Asked, Said] = {}
        """What is submitted now; a changed answer is here as it was changed."""
        self.unsaid: set[Asked] = set()
        """What somebody left as a draft, discarded, or took back."""
        self.shown: set[tuple[str, str]] = set()
        """Every answer that was on a page, with its conversation."""
        self.datasets: dict[str, str] = {}
        """Ids on the server, by name."""
        self._client = client
        self._dataset = dataset
        self._opinions = opinions
        self._questions: dict[str, list[dict[str, Any]]] = {}
        self._kept: dict[tuple[str, str | None], list[_Page]] = {}
        """The pages that a person answered at first, by their story."""

    def sit_down(self) -> None:
        """All answer, but one of the two who know leaves a record for later."""
        for person, client in self._signed_in():
            for pages in self._pending(client):
                self._send(client, [self._first_answer(person, page) for page in pages])

    def come_back(self) -> None:
        """One answer is changed, one is taken back, and all finish what is open."""
        for person, client in self._signed_in():
            for page in self._kept.get((person, "changed"), ()) if person == FIRST else ():
                self._send(client, [self._respond(person, page)])
            for page in self._kept.get((person, "withdrawn"), ()) if person == FOURTH else ():
                self._send(client, [self._respond(person, page, "draft", errs=True)])
        for person, client in self._signed_in():
            for pages in self._pending(client) if person != FOURTH else ():
                errs = person == WRONG
                self._send(client, [self._respond(person, page, errs=errs) for page in pages])

    def _first_answer(self, person: str, page: _Page) -> dict[str, Any] | None:
        """What the person says before anybody comes back to it; none where it is left open."""
        story = self._opinions.story(page.turns)
        self._kept.setdefault((person, story), []).append(page)
        if person == FOURTH:
            status = _LEFT.get(story or "")
            return None if status is None else self._respond(person, page, status, errs=True)
        if person == SECOND and story == "late":
            return None
        errs = person == WRONG or (person == FIRST and story == "changed")
        return self._respond(person, page, errs=errs)

    def _signed_in(self) -> Iterator[tuple[str, "Client"]]:
        """Each with a client; the fourth comes first, before a record is complete without them."""
        from curation.argilla.client import Client

        keys = {user["username"]: user["api_key"] for user in self._client.get("/users")["items"]}
        for person in reversed(PEOPLE):
            with Client(self._client.url, keys[person]) as client:
                yield person, client

    def _pending(self, client: "Client") -> Iterator[list[_Page]]:
        """What the person is still asked, by dataset, found as Argilla's own page finds it."""
        is_pending = [
            {
                "type": "terms",
                "scope": {"entity": entity, "property": "status"},
                "values": ["pending"],
            }
            for entity in ("response", "record")
        ]
        for dataset in client.datasets():
            name = dataset["name"]
            if name != self._dataset and not name.startswith(f"{self._dataset}-rank-"):
                continue
            self.datasets[name] = dataset["id"]
            path = f"/me/datasets/{dataset['id']}/records/search?offset=0&limit=100"
            found = client.post(path, {"query": {}, "filters": {"and": is_pending}})
            self._questions[dataset["id"]] = client.get(f"/datasets/{dataset['id']}/questions")[
                "items"
            ]
            yield [_page(dataset["id"], item["record"]) for item in found["items"]]

    def _respond(
        self, person: str, page: _Page, status: Status = "submitted", *, errs: bool = False
    ) -> dict[str, Any] | None:
        """The answer, which is remembered as said; none where the words are not planted."""
        shown = {(words(page.turns), words(answer(text))) for text in page.texts.values()}
        self.shown |= shown
        scores = {
            title: self._opinions.score(page.turns, answer(text))
            for title, text in page.texts.items()
        }
        known = {title: score for title, score in scores.items() if score is not None}
        if len(known) < len(scores):
            return None
        ranks = _turned(_ranks(known)) if errs else _ranks(known)
        both_bad = not errs and set(known.values()) == {0.0}
        values = {}
        for question in self._questions[page.dataset]:
            kind, given, bad = question["settings"]["type"], ranks, both_bad
            if question["title"].startswith(CRITERION):
                given, bad = _turned(ranks), False
            elif question["name"] != "overall":
                continue
            value = _value(question["settings"], given, bad, person)
            values[question["name"]] = {"value": value}
            texts = {title: words(answer(text)) for title, text in page.texts.items()}
            asked = Asked(person, question["name"], words(page.turns), frozenset(texts.values()))
            if status == "submitted":
                by_words = frozenset((texts[title], rank) for title, rank in given.items())
                self.said[asked] = Said(by_words, bad and kind != "ranking")
            else:
                self.said.pop(asked, None)
                self.unsaid.add(asked)
        return {"record_id": page.record, "status": status, "values": values}

    def _send(self, client: "Client", answers: Sequence[dict[str, Any] | None]) -> None:
        items = [answer for answer in answers if answer is not None]
        if not items:
            return
        for sent in client.post("/me/responses/bulk", {"items": items})["items"]:
            if sent["error"] is not None:
                raise ValueError(f"the server refused a planted answer: {sent['error']}")


_LEFT: Mapping[str, Status] = {
    "drafted": "draft",
    "discarded": "discarded",
    "withdrawn": "submitted",
}


def _page(dataset: str, record: Mapping[str, Any]) -> _Page:
    shown = record["fields"]["conversation"]
    return _Page(
        dataset=dataset,
        record=record["id"],
        turns=[
            {"role": turn["role"], "content": html.unescape(turn["content"])}
            for turn in shown["messages"]
        ],
        texts={each["title"]: html.unescape(each["text"]) for each in shown["answers"]},
    )


def _ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """Dense ranks by title, the best score first."""
    levels = sorted(set(scores.values()), reverse=True)
    return {title: levels.index(score) + 1 for title, score in scores.items()}


def _turned(ranks: Mapping[str, int]) -> dict[str, int]:
    """The worst first; where all are alike, the first title first."""
    if len(set(ranks.values())) == 1:
        return {title: 1 if title == min(ranks) else 2 for title in ranks}
    return {title: max(ranks.values()) + 1 - rank for title, rank in ranks.items()}


def _value(
    settings: Mapping[str, Any], ranks: Mapping[str, int], both_bad: bool, person: str
) -> Any:
    """What the page sends for these ranks by title."""
    options = settings["options"]
    if settings["type"] == "ranking":
        value_of = {option["text"]: option["value"] for option in options}
        places = ranks if person == FIRST else _with_gaps(ranks)
        titles: Sequence[str] = sorted(ranks, key=lambda title: (ranks[title], title))
        if person == WRONG:
            titles = sorted(ranks)
        return [{"value": value_of[title], "rank": places[title]} for title in titles]
    best = [title for title, rank in ranks.items() if rank == 1]
    button = "Both are bad" if both_bad else "Tie" if len(best) > 1 else f"{best[0]} is better"
    values = [option["value"] for option in options if option["text"] == button]
    if len(values) != 1:
        raise ValueError(f"the page has {len(values)} buttons '{button}'; expected one")
    return values[0]


def _with_gaps(ranks: Mapping[str, int]) -> dict[str, int]:
    """1, 2, 2, 4 where the ranks are 1, 2, 2, 3: how many stand above."""
    return {
        title: 1 + sum(other < rank for other in ranks.values()) for title, rank in ranks.items()
    }
