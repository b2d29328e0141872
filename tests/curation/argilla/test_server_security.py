"""Who may ask what of a live server, and what no request gets at."""

import http.client
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from curation.argilla.server.accounts import call
from curation.argilla.server.stack import Started

Call = Callable[..., Any]


def raw(server: Started, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a GET whose path nobody has tidied up."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("username", "password"),
    [("owner", "wrong"), ("nobody", "wrong"), ("owner", ""), ("", ""), ("owner' OR 1=1 --", "x"),
     ("argilla", "1234"), ("owner", "x" * 10_000)],
)  # fmt: skip
def test_a_wrong_password_is_refused(argilla_server: Started, username: str, password: str) -> None:
    form = {"username": username, "password": password}
    answer = requests.post(f"{argilla_server.url}/api/v1/token", data=form, timeout=10)
    assert answer.status_code in {401, 422}
    assert "access_token" not in answer.text


def test_the_shown_password_signs_in(argilla_server: Started) -> None:
    for account in argilla_server.accounts:
        form = {"username": account.username, "password": account.password}
        answer = requests.post(f"{argilla_server.url}/api/v1/token", data=form, timeout=10)
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        me = requests.get(f"{argilla_server.url}/api/v1/me", headers=headers, timeout=10).json()
        assert (me["username"], me["role"]) == (account.username, account.role)


@pytest.mark.parametrize("key", ["", "argilla.apikey", "wrong", "' OR '1'='1"])
def test_without_a_right_key_there_is_no_answer(argilla_server: Started, key: str) -> None:
    with pytest.raises(OSError, match=r"refused \(401\)"):
        call(argilla_server.url, key, "GET", "/me/datasets")


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., str], owner: Call) -> str:
    made = make_dataset("security")
    item = {"external_id": "one", "fields": {"prompt": "a prompt"}}
    owner("POST", f"/datasets/{made}/records/bulk", {"items": [item]})
    return made


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users", None),
        ("POST", "/users", {"first_name": "e", "username": "eve", "password": "12345678"}),
        ("POST", "/workspaces", {"name": "mine"}),
        ("DELETE", "/datasets/{dataset}", None),
        ("PATCH", "/datasets/{dataset}", {"guidelines": "changed"}),
        ("POST", "/datasets/{dataset}/records/bulk", {"items": [{"fields": {"prompt": "x"}}]}),
        ("PUT", "/datasets/{dataset}/records/bulk", {"items": [{"fields": {"prompt": "x"}}]}),
        ("GET", "/datasets/{dataset}/records?include=responses", None),
        ("POST", "/datasets/{dataset}/records/search", {}),
        ("DELETE", "/records/{record}", None),
        ("PATCH", "/records/{record}", {"metadata": {}}),
        ("POST", "/datasets", {"name": "mine", "workspace_id": "{workspace}"}),
        ("GET", "/webhooks", None),
    ],
)
def test_an_annotator_is_refused_what_is_the_owners(
    ann: Call, owner: Call, dataset: str, method: str, path: str, body: Any
) -> None:
    record = owner("GET", f"/datasets/{dataset}/records")["items"][0]["id"]
    workspace = owner("GET", "/me/workspaces")["items"][0]["id"]
    if body:
        body = {k: workspace if v == "{workspace}" else v for k, v in body.items()}
    with pytest.raises(OSError, match=r"refused \(403\)"):
        ann(method, path.format(dataset=dataset, record=record), body)


def test_an_annotator_sees_nothing_of_another_workspace(ann: Call, owner: Call) -> None:
    workspace = owner("POST", "/workspaces", {"name": "elsewhere"})["id"]
    other = owner("POST", "/datasets", {"name": "hidden", "workspace_id": workspace})["id"]
    assert other not in [each["id"] for each in ann("GET", "/me/datasets")["items"]]
    with pytest.raises(OSError, match=r"refused \(403\)"):
        ann("GET", f"/datasets/{other}")


def test_an_annotator_cannot_answer_for_another_nor_change_their_answer(
    argilla_server: Started, ann: Call, owner: Call, dataset: str
) -> None:
    record = owner("GET", f"/datasets/{dataset}/records")["items"][0]["id"]
    answer = {"status": "submitted", "values": {"overall": {"value": "a"}}}
    given = ann("POST", f"/records/{record}/responses", answer)
    bob = next(each.api_key for each in argilla_server.accounts if each.username == "bob")
    for method in ("PUT", "DELETE"):
        with pytest.raises(OSError, match=r"refused \(403\)"):
            call(argilla_server.url, bob, method, f"/responses/{given['id']}", answer)
    seen = call(
        argilla_server.url, bob, "POST",
        f"/me/datasets/{dataset}/records/search?include=responses", {},
    )  # fmt: skip
    assert [item["record"]["responses"] for item in seen["items"]] == [[]]


@pytest.mark.parametrize("name", ["../../escape", "..%2f..%2fescape", "/etc/passwd", "a\\..\\b"])
def test_a_path_as_a_name_of_a_dataset_stays_a_name(
    argilla_server: Started, owner: Call, name: str
) -> None:
    workspace = owner("GET", "/me/workspaces")["items"][0]["id"]
    made = owner("POST", "/datasets", {"name": name, "workspace_id": workspace})
    assert made["name"] == name
    assert owner("GET", f"/datasets/{made['id']}")["name"] == name
    owner("DELETE", f"/datasets/{made['id']}")


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2fetc/passwd", "//etc/passwd", "/%2fetc%2fpasswd",
        "/_nuxt/../../../owner.key", "/_nuxt/..%2f..%2f..%2fowner.key", "/....//....//etc/passwd",
        "/..\\..\\..\\etc\\passwd", "/%00/etc/passwd", "/_nuxt/%2e%2e%2f%2e%2e%2fauth.key",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_pages_folder(argilla_server: Started, path: str) -> None:
    status, body, _ = raw(argilla_server, path)
    assert b"root:" not in body
    assert argilla_server.api_key.encode() not in body
    assert status in {200, 400, 404, 405, 500}
    if status == 200:
        assert b"<!doctype html" in body[:200].lower()


def test_a_name_elsewhere_that_points_here_is_refused(argilla_server: Started) -> None:
    assert raw(argilla_server, "/api/v1/version", Host="evil.example")[0] == 400
    assert raw(argilla_server, "/api/v1/version", Host="localhost:6900")[0] == 200


def test_a_page_elsewhere_may_not_read_answers(argilla_server: Started) -> None:
    _, _, headers = raw(argilla_server, "/api/v1/version", Origin="https://evil.example")
    assert "access-control-allow-origin" not in {name.lower() for name in headers}


def test_a_refusal_never_shows_the_key(argilla_server: Started) -> None:
    with pytest.raises(OSError, match="404") as caught:
        call(argilla_server.url, argilla_server.api_key, "GET", "/no/such/route")
    assert argilla_server.api_key not in str(caught.value)


def test_the_web_page_is_there(argilla_server: Started) -> None:
    status, body, _ = raw(argilla_server, "/sign-in")
    assert status == 200
    assert b"Argilla" in body
