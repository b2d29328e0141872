"""Whether people can be asked: what doctor finds of the section `label` of a config."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pairwright.doctor import Finding
from pairwright.doctor_labelling import labelling_findings
from schemas.configs import AggregateConfig, LabelConfig

KEYS = {"owner-key": "owner", "ann-key": "annotator"}
SECRET = "owner-key"


class Argilla(BaseHTTPRequestHandler):
    """The two routes that doctor asks, as Argilla answers them."""

    def do_GET(self) -> None:
        role = KEYS.get(self.headers["X-Argilla-Api-Key"])
        if self.path == "/api/v1/version":
            self.answer(200, {"version": "2.8.0"})
        elif self.path == "/api/v1/me" and role:
            self.answer(200, {"username": "someone", "role": role})
        else:
            self.answer(401 if self.path == "/api/v1/me" else 404, {"detail": "no"})

    def answer(self, status: int, body: dict[str, str]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Argilla) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`found(**label)`: the findings by name, with the embedded server's home elsewhere."""
    monkeypatch.setenv("PAIRWRIGHT_ARGILLA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARGILLA_API_KEY", SECRET)

    def examine(**label: Any) -> dict[str, Finding]:
        asked = {
            "dataset": "Prefs",
            "workspaces": {"team": {"annotators": ["ann", "simulated-ben", "cem"]}},
            "annotations": str(tmp_path / "annotations"),
        }
        config = LabelConfig.model_validate({**asked, **label})
        return {finding.name: finding for finding in labelling_findings(config, AggregateConfig())}

    return examine


def test_embedded_server_that_does_not_run_is_nothing_missing(found: Any, tmp_path: Path) -> None:
    findings = found()
    assert not [finding for finding in findings.values() if finding.state == "missing"]
    assert "`pairwright label serve` starts it" in findings["running server"].detail
    assert findings["labelling data"].detail.endswith(f"'{tmp_path / 'home'}'")
    assert not (tmp_path / "home").exists()


def test_server_that_is_not_installed_will_be(
    found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    server = found()["labelling server"]
    assert server.state == "ok"
    assert "makes it once" in server.detail


def test_scripts_are_counted_apart_and_start_the_server_themselves(found: Any) -> None:
    findings = found(simulated=[{"name": "simulated-ben"}])
    assert findings["labelling"].detail == "3 annotators, 1 of them simulated, 3 for each record"
    assert "starts by itself" in findings["running server"].detail


def test_what_could_not_be_asked_is_missing(found: Any) -> None:
    finding = found(overlap=4)["labelling"]
    assert finding.state == "missing"
    assert "3 annotators, but each record needs 4 answers" in finding.detail


def test_other_server_tells_its_version_and_whose_key_it_is(found: Any, address: str) -> None:
    finding = found(server=address)["labelling server"]
    assert finding.state == "ok"
    assert finding.detail == f"Argilla 2.8.0 answers at {address} to 'someone' (owner)"


def test_key_of_an_annotator_is_not_enough(
    found: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGILLA_API_KEY", "ann-key")
    finding = found(server=address)["labelling server"]
    assert (finding.state, "owner is needed" in finding.detail) == ("missing", True)


@pytest.mark.parametrize("key", ["", "a-wrong-key"])
def test_key_that_is_absent_or_wrong_is_missing_and_never_shown(
    found: Any, address: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGILLA_API_KEY", key)
    finding = found(server=address)["labelling server"]
    assert finding.state == "missing"
    assert "ARGILLA_API_KEY" in finding.detail
    assert "a-wrong-key" not in finding.detail


def test_server_that_is_no_argilla_or_does_not_answer_is_missing(found: Any, address: str) -> None:
    elsewhere = found(server=f"{address}/elsewhere")["labelling server"]
    assert (elsewhere.state, "status 404" in elsewhere.detail) == ("missing", True)
    silent = found(server="http://someone:password@127.0.0.1:1")["labelling server"]
    assert (silent.state, "does not answer" in silent.detail) == ("missing", True)
    assert "password" not in silent.detail


def test_annotations_that_cannot_be_kept_are_missing(found: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = found(annotations=str(tmp_path / "file" / "annotations"))["annotations"]
    assert finding.state == "missing"
    assert "label.annotations" in finding.detail
