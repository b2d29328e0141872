"""Requests survive a server that stumbles, and errors say what to do and nothing secret."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from curation.argilla.client import KEY_VARIABLE, TRIES, Client, RefusedError, connect
from schemas.configs import LabelConfig, WorkspaceConfig

KEY = "secret-key-of-the-owner"
DROP = 0
"""In place of a status: the connection is closed without an answer."""


class Stumbling:
    """A server that gives the scripted answers, then the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, {"items": []})]
        self.seen: list[tuple[str, str, bytes]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stub.seen.append((self.command, self.path, body))
                status, content = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
                if status == DROP:
                    self.close_connection = True
                    return
                sent = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def stub() -> Iterator[Stumbling]:
    made = Stumbling()
    yield made
    made.server.shutdown()
    made.server.server_close()


def client_of(stub: Stumbling) -> Client:
    return Client(stub.url, KEY, sleep=lambda seconds: None)


@pytest.mark.parametrize("trouble", [DROP, 429, 500, 502, 503, 504])
def test_a_request_that_fails_is_sent_again_with_the_same_content(
    stub: Stumbling, trouble: int
) -> None:
    stub.answers = [(trouble, {}), (trouble, {}), (201, {"done": True})]
    assert client_of(stub).put("/records", {"items": ["t-1"]}) == {"done": True}
    assert len(stub.seen) == 3
    assert len(set(stub.seen)) == 1


def test_waits_grow_and_the_last_failure_says_what_was_being_done(stub: Stumbling) -> None:
    waits: list[float] = []
    stub.answers = [(503, {})]
    with pytest.raises(ConnectionError, match=r"did not answer in 6 tries.*add 3 records: l-1"):
        Client(stub.url, KEY, sleep=waits.append).put("/x", {}, about="add 3 records: l-1")
    assert len(stub.seen) == TRIES
    assert len(waits) == TRIES - 1
    assert all(later > earlier for earlier, later in pairwise(waits))


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    gone = Client("http://127.0.0.1:9", KEY, sleep=lambda seconds: None)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        gone.get("/me")


@pytest.mark.parametrize(("status", "words"), [(401, "API key"), (403, "owner")])
def test_a_refused_key_is_said_and_never_shown(stub: Stumbling, status: int, words: str) -> None:
    stub.answers = [(status, {"detail": "no"})]
    with pytest.raises(PermissionError, match=words) as raised:
        client_of(stub).get("/users")
    assert KEY not in str(raised.value)
    assert len(stub.seen) == 1


def test_a_refusal_says_why_without_the_text_that_was_sent(stub: Stumbling) -> None:
    error = {"loc": ["body", "items", 0, "fields"], "msg": "Field required", "input": "MODEL TEXT"}
    stub.answers = [(422, {"detail": {"code": "x", "params": {"errors": [error]}}})]
    with pytest.raises(RefusedError, match=r"body\.items\.0\.fields Field required") as raised:
        client_of(stub).post("/records", {"fields": "MODEL TEXT"}, about="add l-1")
    assert raised.value.status == 422
    assert "MODEL TEXT" not in str(raised.value)
    assert "add l-1" in str(raised.value)


def test_an_error_is_short_however_many_ids_it_names(stub: Stumbling) -> None:
    stub.answers = [(400, {"detail": "x" * 50_000})]
    with pytest.raises(RefusedError) as raised:
        client_of(stub).put("/records", {}, about=", ".join(f"l-{n:020d}" for n in range(900)))
    assert len(str(raised.value)) < 2_000


def test_a_page_that_is_no_api_is_said_to_be_none(stub: Stumbling) -> None:
    stub.answers = [(200, b"<html>hello</html>")]
    with pytest.raises(ConnectionError, match="is it an Argilla server"):
        client_of(stub).get("/me")


def label_config(server: str) -> LabelConfig:
    return LabelConfig(
        server=server, dataset="d", workspaces={"w": WorkspaceConfig(annotators=("a",))}, overlap=1
    )


def test_another_server_needs_a_key_from_the_environment(monkeypatch: Any) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"set {KEY_VARIABLE}"):
        connect(label_config("https://argilla.example.org"))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert connect(label_config("https://argilla.example.org/")).url == (
        "https://argilla.example.org/"
    )


@pytest.mark.parametrize("address", ["argilla.example.org", "ftp://x", "http://", "file:///etc"])
def test_what_is_no_address_is_refused(monkeypatch: Any, address: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with pytest.raises(ValueError, match="expected `embedded` or an address"):
        connect(label_config(address))


def test_a_password_in_the_address_is_in_no_error(monkeypatch: Any) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=r"https://argilla\.example\.org") as raised:
        connect(label_config("https://me:hidden@argilla.example.org"))
    assert "hidden" not in str(raised.value)


def test_without_an_embedded_server_the_error_says_how_to_start_it(
    monkeypatch: Any, tmp_path: Any
) -> None:
    monkeypatch.setenv("PAIRWRIGHT_ARGILLA_HOME", str(tmp_path / "none"))
    with pytest.raises(ConnectionError, match="pairwright label serve"):
        connect(label_config("embedded"))


@pytest.mark.parametrize("sent", [[], None, b"", b"<html>sign in</html>"])
def test_an_answer_that_is_no_object_is_no_argilla_server(stub: Stumbling, sent: Any) -> None:
    stub.answers = [(200, sent)]
    with pytest.raises(ConnectionError, match="is it an Argilla server"):
        client_of(stub).users()


def test_a_server_that_has_moved_is_named_and_not_followed(stub: Stumbling) -> None:
    stub.answers = [(307, b"")]
    with pytest.raises(ConnectionError, match=r"sends on to .*set label\.server"):
        client_of(stub).post("/datasets/x/records/bulk", {"items": []})
    assert len(stub.seen) == 1


@pytest.mark.parametrize(
    "server", ["http://[::1", "https://argilla.example.org:port", "http://argilla example.org"]
)
def test_an_address_that_is_none_is_refused_before_any_request(server: str) -> None:
    config = LabelConfig(
        dataset="d", server=server, workspaces={"team": WorkspaceConfig(annotators=("ann",))}
    )
    with pytest.raises(ValueError, match=r"label\.server is .*expected `embedded`"):
        connect(config)


@pytest.mark.parametrize("key", ["schl\u00fcssel", "two\nlines", "key\u200b"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    config = LabelConfig(
        dataset="d",
        server="https://argilla.example.org",
        workspaces={"team": WorkspaceConfig(annotators=("ann",))},
    )
    with pytest.raises(ValueError, match="copy the key again") as refusal:
        connect(config)
    assert key not in str(refusal.value)
