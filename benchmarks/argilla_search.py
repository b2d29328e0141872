"""How long the embedded Argilla takes to page, filter, sort and search, over its HTTP API.

    python benchmarks/argilla_search.py                          # 20,000 records, 4 minutes
    python benchmarks/argilla_search.py --records 2000 --json figures.json

Records of about 600 characters (a chat and two answers) of made-up words whose frequencies follow
Zipf's law, with two metadata properties and a suggestion; one in ten is answered. Each request is
an annotator's, as the web page sends it; a figure is the median of several. Exit code 1 where one
misses its limit: 300 ms without a text, 500 ms with one.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from curation.argilla.server.accounts import WORKSPACE, call
from curation.argilla.server.background import start_background
from curation.argilla.server.stack import Started

WITHOUT_TEXT, WITH_TEXT = 0.3, 0.5
RARE = "zyzzyva"
VOCABULARY = 20_000
BATCH = 500


class Request(NamedTuple):
    """What is asked of the search route, and within how many seconds."""

    name: str
    body: dict[str, Any]
    limit: float
    offset: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7, help="requests a figure")
    parser.add_argument("--home", type=Path, help="keep the server's data here, and use it again")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="argilla-search-") as name:
        home = options.home or Path(name) / "home"
        started = time.monotonic()
        with start_background(home, annotators=["ann"], progress=print) as server:
            print(f"started in {time.monotonic() - started:.1f} s")
            dataset, pushed = find_or_push(server, options.records)
            figures = measure(server, dataset, options.repeats)
    for figure in figures:
        mark = "" if figure["median_ms"] <= figure["limit_ms"] else "  MISSED"
        print(
            f"{figure['name']:<34} {figure['found']:>6} found {figure['median_ms']:>6.0f} ms"
            f"  (worst {figure['worst_ms']:.0f}, limit {figure['limit_ms']:.0f}){mark}"
        )
    if options.json:
        about = {"records": options.records, "pushed_seconds": pushed, "cores": os.cpu_count()}
        about |= {"python": platform.python_version(), "figures": figures}
        options.json.write_text(json.dumps(about, indent=2) + "\n")
    return int(any(figure["median_ms"] > figure["limit_ms"] for figure in figures))


def find_or_push(server: Started, records: int) -> tuple[str, float | None]:
    """The id of the dataset with that many records, and the seconds its records took if pushed."""
    key = server.api_key
    name = f"search-{records}"
    for known in call(server.url, key, "GET", "/me/datasets")["items"]:
        if known["name"] == name:
            return known["id"], None
    dataset = make_dataset(server, name)
    questions = call(server.url, key, "GET", f"/datasets/{dataset}/questions")["items"]
    overall = next(question["id"] for question in questions if question["name"] == "overall")
    started = time.monotonic()
    rows = made_up(records, overall)
    while batch := [row for _, row in zip(range(BATCH), rows, strict=False)]:
        call(server.url, key, "POST", f"/datasets/{dataset}/records/bulk", {"items": batch})
    seconds = time.monotonic() - started
    print(f"pushed {records} records in {seconds:.0f} s ({records / seconds:.0f} a second)")
    answer_some(server, dataset, every=10)
    return dataset, seconds


def make_dataset(server: Started, name: str, *, min_submitted: int = 1) -> str:
    """The id of a new published dataset of pairs in the annotators' workspace."""
    key = server.api_key
    spaces = call(server.url, key, "GET", "/me/workspaces")["items"]
    workspace = next(space["id"] for space in spaces if space["name"] == WORKSPACE)
    distribution = {"strategy": "overlap", "min_submitted": min_submitted}
    asked = {"name": name, "workspace_id": workspace, "distribution": distribution}
    dataset: str = call(server.url, key, "POST", "/datasets", asked)["id"]
    here = f"/datasets/{dataset}"
    for field, kind in (("prompt", "chat"), ("answer_a", "text"), ("answer_b", "text")):
        settings = {"type": kind, "use_markdown": False}
        body = {"name": field, "title": field, "required": True, "settings": settings}
        call(server.url, key, "POST", f"{here}/fields", body)
    options = [{"value": value, "text": value} for value in ("a", "b", "tie")]
    settings = {"type": "label_selection", "options": options, "visible_options": None}
    body = {"name": "overall", "title": "overall", "required": True, "settings": settings}
    call(server.url, key, "POST", f"{here}/questions", body)
    for prop, kind in (("source", "terms"), ("margin", "float")):
        body = {"name": prop, "title": prop, "settings": {"type": kind}}
        call(server.url, key, "POST", f"{here}/metadata-properties", body)
    call(server.url, key, "PUT", f"{here}/publish")
    return dataset


def made_up(records: int, question: str, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Records of made-up words; the rare word stands in one of a thousand."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bcdfghjklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(VOCABULARY)]
    words[0], words[1], words[2] = "the", "of", "and"
    weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))

    def text(count: int) -> str:
        return " ".join(draw.choices(words, cum_weights=weights, k=count))

    for number in range(records):
        rare = f" {RARE}" if number % 1000 == 7 else ""
        yield {
            "external_id": f"record-{number}",
            "fields": {
                "prompt": [{"role": "user", "content": text(25)}],
                "answer_a": text(45) + rare,
                "answer_b": text(45),
            },
            "metadata": {"source": f"source {number % 7}", "margin": draw.random()},
            "suggestions": [
                {
                    "question_id": question,
                    "value": draw.choice("ab"),
                    "score": draw.random(),
                    "agent": "made-up",
                }
            ],
        }


def answer_some(server: Started, dataset: str, *, every: int) -> None:
    """Submit an answer of the annotator's to each of every so many records."""
    key = server.accounts[-1].api_key
    here, offset, ids = f"/datasets/{dataset}/records", 0, []
    while page := call(server.url, server.api_key, "GET", f"{here}?limit=1000&offset={offset}"):
        if not page["items"]:
            break
        ids += [record["id"] for record in page["items"]]
        offset += 1000
    answer = {"status": "submitted", "values": {"overall": {"value": "a"}}}
    for start in range(0, len(ids), every * 100):
        items = [{"record_id": id_} | answer for id_ in ids[start : start + every * 100 : every]]
        call(server.url, key, "POST", "/me/responses/bulk", {"items": items})


def requests(records: int) -> list[Request]:
    """The page's own requests: what is not answered yet, narrowed, sorted or searched."""

    def scope(entity: str, **more: str) -> dict[str, str]:
        return {"entity": entity} | more

    def terms(where: dict[str, str], *values: str) -> dict[str, Any]:
        return {"type": "terms", "scope": where, "values": list(values)}

    def asked(
        *filters: dict[str, Any],
        text: str | None = None,
        field: str | None = None,
        sort: dict[str, str] | None = None,
        status: str = "pending",
    ) -> dict[str, Any]:
        conditions = [terms(scope("response", property="status"), status), *filters]
        if status == "pending":
            conditions.append(terms(scope("record", property="status"), "pending"))
        body: dict[str, Any] = {"filters": {"and": conditions}}
        if text is not None:
            body["query"] = {"text": {"q": text} | ({"field": field} if field else {})}
        if sort:
            body["sort"] = [{"scope": sort, "order": "desc"}]
        return body

    score = scope("suggestion", question="overall", property="score")
    value = scope("suggestion", question="overall", property="value")
    margin = {"type": "range", "scope": scope("metadata", metadata_property="margin")}
    source = scope("metadata", metadata_property="source")
    plain = [
        ("page: first", asked(), 0),
        ("page: last but ten", asked(), int(records * 0.9) - 10),
        ("page: answered", asked(status="submitted"), 0),
        ("filter: metadata range", asked(margin | {"ge": 0.2, "le": 0.8}), 0),
        ("filter: metadata term", asked(terms(source, "source 3")), 0),
        ("filter: suggestion", asked(terms(value, "a")), 0),
        ("filter: suggestion score", asked({"type": "range", "scope": score, "ge": 0.5}), 0),
        ("sort: metadata", asked(sort=scope("metadata", metadata_property="margin")), 0),
        ("sort: suggestion score", asked(sort=score), 0),
        ("sort: newest", asked(sort=scope("record", property="inserted_at")), 0),
        ("sort: last changed", asked(sort=scope("record", property="updated_at")), 0),
    ]
    texts = [
        ("text: common word", asked(text="the")),
        ("text: three common words", asked(text="the of and")),
        ("text: rare word", asked(text=RARE)),
        ("text: one letter and *", asked(text="b*")),
        ("text: three such", asked(text="b* c* d*")),
        ("text: phrase of common words", asked(text='"the of"')),
        ("text: phrase that nobody wrote", asked(text='"of the and the of"')),
        ("text: not a common word", asked(text="-the")),
        ("text: common, not rare", asked(text=f"the -{RARE}")),
        ("text: or", asked(text=f"the | {RARE} | of")),
        ("text: one field", asked(text="the", field="answer_b")),
        ("text: 60 words, or", asked(text=" | ".join(f"b{letter}*" for letter in "aeiou" * 12))),
        ("text: with filter", asked(terms(source, "source 3"), text="the")),
        ("text: with sort", asked(text="the", sort=score)),
        ("text: any status", {"query": {"text": {"q": "the"}}}),
    ]
    return [
        *(Request(name, body, WITHOUT_TEXT, offset) for name, body, offset in plain),
        *(Request(name, body, WITH_TEXT) for name, body in texts),
    ]


def measure(server: Started, dataset: str, repeats: int) -> list[dict[str, Any]]:
    """A row a request: how many records it found, the median and the worst time."""
    key = server.accounts[-1].api_key
    count = call(server.url, key, "GET", f"/me/datasets/{dataset}/metrics")
    print(f"measuring with {count['responses']['total']} answers")
    records = call(server.url, server.api_key, "GET", f"/datasets/{dataset}/progress")["total"]
    rows = []
    for request in requests(records):
        path = f"/me/datasets/{dataset}/records/search?include=responses&include=suggestions"
        path += f"&limit=10&offset={request.offset}"
        seconds: list[float] = []
        for _ in range(repeats):
            started = time.perf_counter()
            answer = call(server.url, key, "POST", path, request.body)
            seconds.append(time.perf_counter() - started)
        rows.append(row(request, answer["total"], seconds))
    return rows


def row(request: Request, found: int, seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "name": request.name,
        "found": found,
        "median_ms": 1000 * statistics.median(seconds),
        "worst_ms": 1000 * max(seconds),
        "limit_ms": 1000 * request.limit,
    }


if __name__ == "__main__":
    sys.exit(main())
