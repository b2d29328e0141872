"""Search, filters, orders, similarity and metrics through the HTTP API of a live server."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Call = Callable[..., Any]

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A lazy afternoon; the dog sleeps. Foxes do not.",
    "cafe": "Un café crème, s'il vous plaît — 25°C outside",
    "plain": "An ordinary cafe in ÉCOLE street, e-mail me: a.b@example.org",
    "han": "我今天在東京吃了拉麵。",
    "kana": "今日はラーメンを食べました",
    "thai": "สวัสดีชาวโลก",
    "hindi": "नमस्ते दुनिया, हिन्दी में",
    "arabic": "مرحبا بالعالم",
    "russian": "Съешь же ещё этих мягких французских булок",
    "emoji": "Great answer 🎉👍🏽 and a heart ❤️",
    "code": 'if (x == 1) { return foo_bar("a") && NEAR(b) } // col: value',
    "turkish": "İstanbul'da DIŞARI çıktı",
}


class Search(NamedTuple):
    """The external ids that a search finds, in order, and how many it says there are."""

    ids: list[str]
    total: int
    scores: list[float | None]


@pytest.fixture(scope="module")
def texts(make_dataset: Callable[..., str], owner: Call) -> str:
    """A dataset with one record a text: in a chat for those of odd number, else in a field."""
    fields = (("title", "text"), ("talk", "chat"), ("page", "custom"), ("picture", "image"))
    dataset = make_dataset("search texts", fields)
    items = [
        {
            "external_id": name,
            "fields": {
                "title": f"title {name}",
                "talk": [{"role": "user", "content": text}] if number % 2 else None,
                "page": {"left": {"text": None if number % 2 else text}, "right": ["end", number]},
                "picture": "https://example.org/fox.png",
            },
        }
        for number, (name, text) in enumerate(TEXTS.items())
    ]
    owner("POST", f"/datasets/{dataset}/records/bulk", {"items": items})
    return dataset


def search(user: Call, dataset: str, limit: int = 50, offset: int = 0, **body: Any) -> Search:
    path = f"/me/datasets/{dataset}/records/search?limit={limit}&offset={offset}"
    answer = user("POST", path, body)
    records = answer["items"]
    return Search(
        [item["record"]["external_id"] for item in records],
        answer["total"],
        [item["query_score"] for item in records],
    )


def typed(user: Call, dataset: str, text: str, field: str | None = None) -> set[str]:
    asked = {"q": text} | ({"field": field} if field else {})
    found = search(user, dataset, query={"text": asked})
    assert found.total == len(found.ids)
    return set(found.ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fox", {"fox"}),
        ("FOX", {"fox"}),
        ("lazy dog", {"fox", "dog"}),
        ('"lazy dog"', {"fox"}),
        ('"dog lazy"', set()),
        ("fox*", {"fox", "dog"}),
        ("f*", {"fox", "dog", "code"}),
        ("lazy -fox", {"dog"}),
        ('lazy -"lazy dog"', {"dog"}),
        ("fox | sleeps", {"fox", "dog"}),
        ("fox sleeps", set()),
        ("(fox | sleeps) lazy", {"fox", "dog"}),
        ("fox +lazy", {"fox"}),
        ("-lazy", set(TEXTS) - {"fox", "dog"}),
        ("--lazy", set(TEXTS) - {"fox", "dog"}),
        ("*", set(TEXTS)),
        ("café", {"cafe"}),
        ("CAFÉ", {"cafe"}),
        ("cafe", {"cafe", "plain"}),
        ("école", {"plain"}),
        ("ecole", set()),
        ("e-mail", {"plain"}),
        ("a.b@example.org", {"plain"}),
        ("25°C", {"cafe"}),
        ("東京", {"han"}),
        ("京東", set()),
        ("今", {"han", "kana"}),
        ("ラーメン", {"kana"}),
        ("東京 -拉麵", set()),
        ("ชาวโลก", {"thai"}),
        ("हिन्दी", {"hindi"}),
        ("हिन्द*", {"hindi"}),
        ("بالعالم", {"arabic"}),
        ("ЕЩЁ", {"russian"}),
        ("булок | fox", {"russian", "fox"}),
        ("🎉", {"emoji"}),
        ("👍", {"emoji"}),
        ("🙈", set()),
        ("foo_bar", {"code"}),
        ("NEAR", {"code"}),
        ("NEAR(", {"code"}),
        ("col:", {"code"}),
        ("col: value", {"code"}),
        ("talk:lazy", set()),
        ("AND", {"emoji"}),
        ("DIŞARI", {"turkish"}),
        ('"', set()),
        ("", set()),
        ("   ", set()),
        ("!!!", set()),
        ("'; DROP TABLE records; --", set()),
        ('fox"', {"fox"}),
        ('"fox', {"fox"}),
        ("fox)", {"fox"}),
        ("((fox", {"fox"}),
        ("fox\0", {"fox"}),
        ("fox~2", {"fox"}),
        ('"lazy dog"~3', {"fox"}),
        ("dataset", set()),
        ("user", set()),
        ("example.org", {"plain"}),
        ("end", set(TEXTS)),
    ],
)  # fmt: skip
def test_a_text_finds_what_its_words_say(
    ann: Call, texts: str, text: str, expected: set[str]
) -> None:
    assert typed(ann, texts, text) == expected


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("fox", "title", {"fox"}),
        ("lazy", "title", set()),
        ("lazy", "page", {"fox"}),
        ("lazy", "talk", {"dog"}),
        ("-lazy", "talk", set(TEXTS) - {"dog"}),
        ("https", "picture", set()),
    ],
)
def test_a_search_can_be_held_to_one_field(
    ann: Call, texts: str, text: str, field: str, expected: set[str]
) -> None:
    assert typed(ann, texts, text, field) == expected


@pytest.mark.parametrize("length", [10_000, 100_000])
def test_a_very_long_text_gets_an_answer(ann: Call, texts: str, length: int) -> None:
    assert typed(ann, texts, "fox " * (length // 4)) == {"fox"}
    assert typed(ann, texts, "(" * length) == set()
    assert typed(ann, texts, "x" * length) == set()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text('fox "*()|-+~:^{}\\NEAR日🎉'))
def test_no_text_is_refused(ann: Call, texts: str, text: str) -> None:
    typed(ann, texts, text)


def test_the_best_match_comes_first_and_scores_fall(ann: Call, texts: str) -> None:
    found = search(ann, texts, query={"text": {"q": "lazy | dog | fox | brown"}})
    assert found.ids[0] == "fox"
    assert found.scores == sorted(found.scores, reverse=True)


@pytest.fixture(scope="module")
def answered(make_dataset: Callable[..., str], owner: Call, ann: Call) -> str:
    """Twelve records with metadata, suggestions, vectors, and some answers of ann's."""
    metadata = (("source", "terms"), ("length", "integer"), ("margin", "float"))
    dataset = make_dataset("search answers", metadata=metadata, vectors=["space"])
    question = owner("GET", f"/datasets/{dataset}/questions")["items"][0]["id"]
    items = [
        {
            "external_id": f"r{number:02}",
            "fields": {"prompt": f"prompt number {number}"},
            "metadata": {"source": ["x", "yes"] if number % 2 else "y", "length": number}
            | ({"margin": number / 10} if number < 6 else {}),
            "vectors": {"space": [float(number), 5.0]},
            "suggestions": [
                {
                    "question_id": question,
                    "value": "a" if number < 4 else "b",
                    "score": number / 11,
                    "agent": "model-1" if number < 6 else "model-2",
                }
            ],
        }
        for number in range(12)
    ]
    owner("POST", f"/datasets/{dataset}/records/bulk", {"items": items})
    ids = record_ids(owner, dataset)
    for name, status, value in (
        ("r00", "submitted", "a"), ("r01", "submitted", "b"), ("r02", "draft", "a"),
        ("r03", "discarded", None),
    ):  # fmt: skip
        values = {"overall": {"value": value}} if value else {}
        ann("POST", f"/records/{ids[name]}/responses", {"status": status, "values": values})
    return dataset


def record_ids(owner: Call, dataset: str) -> dict[str, str]:
    items = owner("GET", f"/datasets/{dataset}/records?limit=1000")["items"]
    return {item["external_id"]: item["id"] for item in items}


def names(*numbers: int) -> set[str]:
    return {f"r{number:02}" for number in numbers}


METADATA = {"entity": "metadata"}
STATUS = {"entity": "response", "property": "status"}
ANSWER = {"entity": "response", "question": "overall"}
SUGGESTED = {"entity": "suggestion", "question": "overall"}


@pytest.mark.parametrize(
    ("scope", "test", "expected"),
    [
        (METADATA | {"metadata_property": "source"}, ["yes"], names(1, 3, 5, 7, 9, 11)),
        (METADATA | {"metadata_property": "source"}, ["x", "y"], names(*range(12))),
        (METADATA | {"metadata_property": "length"}, {"ge": 3, "le": 5}, names(3, 4, 5)),
        (METADATA | {"metadata_property": "margin"}, {"ge": 0.35}, names(4, 5)),
        (METADATA | {"metadata_property": "margin"}, {"le": 0.1}, names(0, 1)),
        (STATUS, ["pending"], names(*range(4, 12))),
        (STATUS, ["submitted"], names(0, 1)),
        (STATUS, ["draft", "discarded"], names(2, 3)),
        (STATUS, ["pending", "draft"], names(2, *range(4, 12))),
        (ANSWER, ["a"], names(0, 2)),
        (SUGGESTED | {"property": "value"}, ["a"], names(0, 1, 2, 3)),
        (SUGGESTED | {"property": "agent"}, ["model-2"], names(*range(6, 12))),
        (SUGGESTED | {"property": "score"}, {"ge": 0.9}, names(10, 11)),
        ({"entity": "record", "property": "status"}, ["completed"], names(0, 1)),
        ({"entity": "record", "property": "external_id"}, ["r07", "r09"], names(7, 9)),
        ({"entity": "record", "property": "id"}, ["no id"], set()),
        ({"entity": "record", "property": "inserted_at"}, {"ge": "2020-01-01T00:00:00Z"},
         names(*range(12))),
        ({"entity": "record", "property": "inserted_at"}, {"le": "2020-01-01"}, set()),
    ],
)  # fmt: skip
def test_a_filter_leaves_what_it_says(
    ann: Call, answered: str, scope: dict[str, str], test: Any, expected: set[str]
) -> None:
    asked = (
        {"type": "range"} | test if isinstance(test, dict) else {"type": "terms", "values": test}
    )
    found = search(ann, answered, filters={"and": [asked | {"scope": scope}]})
    assert (set(found.ids), found.total) == (expected, len(expected))


def test_a_filter_by_id_finds_the_record(ann: Call, owner: Call, answered: str) -> None:
    wanted = record_ids(owner, answered)["r05"]
    scope = {"entity": "record", "property": "id"}
    asked = {"type": "terms", "scope": scope, "values": [wanted]}
    assert search(ann, answered, filters={"and": [asked]}).ids == ["r05"]


def test_filters_and_text_must_all_hold(ann: Call, answered: str) -> None:
    length = {"type": "range", "scope": METADATA | {"metadata_property": "length"}, "ge": 3}
    value = {"type": "terms", "scope": SUGGESTED | {"property": "value"}, "values": ["a"]}
    found = search(ann, answered, filters={"and": [length, value]})
    assert found.ids == ["r03"]
    found = search(ann, answered, query={"text": {"q": "-3"}}, filters={"and": [length, value]})
    assert (found.ids, found.total) == ([], 0)


@pytest.mark.parametrize(
    ("scope", "order", "expected"),
    [
        (METADATA | {"metadata_property": "length"}, "desc", list(range(11, -1, -1))),
        (METADATA | {"metadata_property": "margin"}, "asc", list(range(12))),
        (METADATA | {"metadata_property": "margin"}, "desc", [5, 4, 3, 2, 1, 0, *range(6, 12)]),
        (SUGGESTED | {"property": "score"}, "desc", list(range(11, -1, -1))),
        ({"entity": "record", "property": "external_id"}, "desc", list(range(11, -1, -1))),
    ],
)
def test_a_sort_orders_and_puts_what_has_no_value_last(
    ann: Call, answered: str, scope: dict[str, str], order: str, expected: list[int]
) -> None:
    found = search(ann, answered, sort=[{"scope": scope, "order": order}])
    assert found.ids == [f"r{number:02}" for number in expected]


def test_every_user_has_an_order_of_their_own_that_stays_and_pages_without_gap(
    ann: Call, owner: Call, answered: str
) -> None:
    orders = [search(user, answered).ids for user in (ann, owner)]
    assert orders[0] != orders[1]
    assert set(orders[0]) == set(orders[1]) == names(*range(12))
    pages = [search(ann, answered, limit=5, offset=start).ids for start in (0, 5, 10)]
    assert [name for page in pages for name in page] == orders[0]


def test_similarity_finds_the_nearest_and_the_farthest(
    ann: Call, owner: Call, answered: str
) -> None:
    vector = {"name": "space", "value": [0.0, 1.0]}
    assert search(ann, answered, limit=3, query={"vector": vector}).ids == ["r00", "r01", "r02"]
    least = vector | {"order": "least_similar"}
    assert search(ann, answered, limit=2, query={"vector": least}).ids == ["r11", "r10"]
    by_record = {"name": "space", "record_id": record_ids(owner, answered)["r00"]}
    found = search(ann, answered, limit=2, query={"vector": by_record})
    assert found.ids == ["r01", "r02"]
    assert found.scores[0] == pytest.approx((1 + 5 / 26**0.5) / 2)  # cos of (0, 5) and (1, 5)


def test_metrics_count_terms_and_give_the_range_of_numbers(owner: Call, answered: str) -> None:
    properties = owner("GET", f"/me/datasets/{answered}/metadata-properties")["items"]
    metrics = {
        each["name"]: owner("GET", f"/metadata-properties/{each['id']}/metrics")
        for each in properties
    }
    terms = [{"term": term, "count": 6} for term in ("x", "y", "yes")]
    assert metrics["source"]["values"] == terms
    assert (metrics["length"]["min"], metrics["length"]["max"]) == (0, 11)
    assert (metrics["margin"]["min"], metrics["margin"]["max"]) == (0.0, 0.5)


def test_progress_counts_records_and_a_users_answers(ann: Call, owner: Call, answered: str) -> None:
    progress = owner("GET", f"/datasets/{answered}/progress")
    assert (progress["total"], progress["completed"], progress["pending"]) == (12, 2, 10)
    mine = ann("GET", f"/me/datasets/{answered}/metrics")["responses"]
    assert mine == {"total": 12, "submitted": 2, "draft": 1, "discarded": 1, "pending": 8}


def test_a_changed_record_is_found_by_its_new_text_and_a_deleted_one_not_at_all(
    make_dataset: Callable[..., str], owner: Call, ann: Call
) -> None:
    dataset = make_dataset("search changes")
    items = [{"external_id": name, "fields": {"prompt": f"old {name}"}} for name in ("one", "two")]
    owner("POST", f"/datasets/{dataset}/records/bulk", {"items": items})
    ids = record_ids(owner, dataset)
    owner("PATCH", f"/records/{ids['one']}", {"fields": {"prompt": "new one"}})
    assert typed(ann, dataset, "old") == {"two"}
    assert typed(ann, dataset, "new") == {"one"}
    owner("DELETE", f"/datasets/{dataset}/records?ids={ids['one']}")
    assert typed(ann, dataset, "one") == set()
    owner("DELETE", f"/datasets/{dataset}")


def test_a_wider_overlap_opens_completed_records_again(
    make_dataset: Callable[..., str], owner: Call, ann: Call, eventually: Callable[..., None]
) -> None:
    dataset = make_dataset("search overlap")
    for number in range(3):
        item = {"external_id": f"{number}", "fields": {"prompt": "words"}}
        owner("POST", f"/datasets/{dataset}/records/bulk", {"items": [item]})
    for id_ in record_ids(owner, dataset).values():
        answer = {"status": "submitted", "values": {"overall": {"value": "a"}}}
        ann("POST", f"/records/{id_}/responses", answer)
    for overlap, completed in ((2, 0), (1, 3), (2, 0)):
        distribution = {"strategy": "overlap", "min_submitted": overlap}
        owner("PATCH", f"/datasets/{dataset}", {"distribution": distribution})
        eventually(lambda: owner("GET", f"/datasets/{dataset}/progress")["completed"], completed)
