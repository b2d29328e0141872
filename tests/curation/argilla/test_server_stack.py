"""The process tree of the embedded server: it starts, lives and dies as one, and keeps its data."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.argilla.server.accounts import call, reset_password
from curation.argilla.server.background import start_background
from curation.argilla.server.home import Home, default_home, running
from curation.argilla.server.stack import Started

pytestmark = pytest.mark.usefixtures("argilla_installed")


def tree(server: Started) -> dict[str, psutil.Process]:
    """The launcher and its members by name."""
    launcher = psutil.Process(server.pid)
    redis, web = sorted(launcher.children(), key=lambda each: "boot.py" in str(each.cmdline()))
    (worker,) = web.children()
    return {"launcher": launcher, "redis": redis, "web": web, "worker": worker}


def assert_all_gone(processes: list[psutil.Process], *, within: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within)
    assert not alive


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack") / "home"


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Started]:
    """A server of the home for the tests that do it no harm."""
    with start_background(home, annotators=["ann"]) as started:
        yield started


def test_it_runs_where_running_says(home: Path, server: Started) -> None:
    found = running(home)
    assert found == (server.url, server.api_key, server.pid)
    assert call(server.url, "", "GET", "/version")["version"] == "2.8.0"
    assert call(server.url, server.api_key, "GET", "/me")["role"] == "owner"


def test_nothing_runs_in_a_home_that_nobody_serves(tmp_path: Path) -> None:
    assert running(tmp_path / "nowhere") is None
    assert not (tmp_path / "nowhere").exists()


def test_a_launcher_that_died_is_not_running(tmp_path: Path) -> None:
    place = Home(tmp_path)
    place.prepare()
    place.secret("owner.key")
    gone = subprocess.Popen(["true"])
    gone.wait()
    state = {"pid": gone.pid, "url": "http://127.0.0.1:1"}
    (tmp_path / "running.json").write_text(json.dumps(state))
    assert running(tmp_path) is None


def test_the_default_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAIRWRIGHT_ARGILLA_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_home() == Path.home() / ".local/share/pairwright/argilla"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_home() == Path("/data/pairwright/argilla")
    monkeypatch.setenv("PAIRWRIGHT_ARGILLA_HOME", "/own")
    assert default_home() == Path("/own")


def test_it_listens_on_this_machine_only(server: Started) -> None:
    listening = [
        connection.laddr.ip
        for process in tree(server).values()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


def test_only_its_owner_reads_the_home(home: Path, server: Started) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("owner.key", "auth.key", "argilla.db"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_passwords_are_shown_once_and_kept_nowhere(home: Path, server: Started) -> None:
    passwords = [account.password for account in server.accounts]
    assert [account.username for account in server.accounts] == ["owner", "ann"]
    kept = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    for password in passwords:
        assert password
        assert password.encode() not in kept
    command_lines = str([process.cmdline() for process in tree(server).values()])
    environments = str([process.environ() for process in tree(server).values()])
    assert not any(password in command_lines + environments for password in passwords)


def test_a_lost_password_is_replaced(server: Started) -> None:
    ann = server.accounts[-1]
    new = reset_password(server.url, server.api_key, "ann").password
    assert new
    assert sign_in(server.url, "ann", str(ann.password)) == 401
    assert sign_in(server.url, "ann", new) == 201
    with pytest.raises(ValueError, match="no account is called 'nobody'"):
        reset_password(server.url, server.api_key, "nobody")


def sign_in(url: str, username: str, password: str) -> int:
    """The status that the server answers a sign-in with."""
    import requests

    form = {"username": username, "password": password}
    return requests.post(f"{url}/api/v1/token", data=form, timeout=10).status_code


def test_a_second_launcher_on_the_home_is_refused(home: Path, server: Started) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "curation.argilla.server", str(home)],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert second.returncode == 2
    assert "already served" in second.stderr
    assert f"at {server.url} by process {server.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert running(home)


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"port {port} of 127.0.0.1 cannot be used"),
            start_background(tmp_path / "home", port),
        ):
            pass


def test_a_port_that_was_asked_for_is_used_and_a_long_home_with_odd_signs_works(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = tmp_path / ("deep ?#%&' é" * 4) / ("deeper" * 20)
    before = short_folders()
    with start_background(home, port) as server:
        assert server.url == f"http://127.0.0.1:{port}"
        assert call(server.url, server.api_key, "GET", "/me")["username"] == "owner"
        assert len(short_folders() - before) == 1
    assert not short_folders() - before


def short_folders() -> set[Path]:
    """Where Redis listens for homes whose path is too long for a socket."""
    return set(Path("/tmp").glob("pairwright-redis-*"))


def test_a_stop_is_quick_and_complete(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start_background(home) as server:
        processes = list(tree(server).values())
        assert len(processes) == 4
        started = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert_all_gone(processes, within=3)
        assert time.monotonic() - started < 3
    assert running(home) is None
    assert not (home / "running.json").exists()
    assert not (home / "tmp").exists()


def test_whoever_is_killed_all_die_and_every_answer_is_kept(
    tmp_path: Path, make_pairs: Callable[[Started, str], list[str]]
) -> None:
    home, given = tmp_path / "home", []
    answer = {"status": "submitted", "values": {"overall": {"value": "a"}}}
    for victim in ("launcher", "web", "redis", "worker"):
        said: list[str] = []
        with start_background(home, annotators=["ann"], progress=said.append) as server:
            records = make_pairs(server, victim)
            for record in records:
                key = server.accounts[-1].api_key
                given.append(call(server.url, key, "POST", f"/records/{record}/responses", answer))
            processes = tree(server)
            processes[victim].kill()
            assert_all_gone(list(processes.values()), within=4)
        if victim != "launcher":
            assert said[-1].startswith("Argilla has stopped: ")
            assert f"{victim}" in said[-1]
            assert "was killed by SIGKILL" in said[-1]
    with start_background(home) as server:
        for one in given:
            path = f"/records/{one['record_id']}"
            responses = call(server.url, server.api_key, "GET", path)["responses"]
            assert [response["id"] for response in responses] == [one["id"]]


@pytest.fixture
def make_pairs() -> Callable[[Started, str], list[str]]:
    """`make_pairs(server, name)`: the ids of three records in a new dataset."""

    def make(server: Started, name: str) -> list[str]:
        def owner(method: str, path: str, body: Any = None) -> Any:
            return call(server.url, server.api_key, method, path, body)

        workspace = owner("GET", "/me/workspaces")["items"][0]["id"]
        dataset = owner("POST", "/datasets", {"name": name, "workspace_id": workspace})["id"]
        field = {"name": "text", "title": "text", "settings": {"type": "text"}}
        owner("POST", f"/datasets/{dataset}/fields", field)
        options = [{"value": value, "text": value} for value in "ab"]
        settings = {"type": "label_selection", "options": options, "visible_options": None}
        question = {"name": "overall", "title": "overall", "required": True, "settings": settings}
        owner("POST", f"/datasets/{dataset}/questions", question)
        owner("PUT", f"/datasets/{dataset}/publish")
        items = [{"fields": {"text": f"text {number}"}} for number in range(3)]
        made = owner("POST", f"/datasets/{dataset}/records/bulk", {"items": items})
        return [item["id"] for item in made["items"]]

    return make


def test_the_server_goes_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from curation.argilla.server.background import start_background\n"
        "with start_background(Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "home")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    with parent.stdout:
        launcher = psutil.Process(int(parent.stdout.readline()))
    processes = [launcher, *launcher.children(recursive=True)]
    parent.kill()
    parent.wait()
    assert_all_gone(processes, within=5)


def test_what_a_server_left_half_made_is_made_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    place = Home(home)
    place.prepare()
    (home / "owner.tmp").write_text("half a key")
    (home / ".argilla.db.tmp").write_text("half a database")
    (home / "argilla.db-wal").write_text("the log of another database")
    with start_background(home) as server:
        assert call(server.url, server.api_key, "GET", "/me")["username"] == "owner"


def test_a_damaged_database_is_named_and_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Home(home).prepare()
    (home / "argilla.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(OSError, match=r"argilla\.db"), start_background(home):
        pass
    assert (home / "argilla.db").read_bytes() == b"not a database" * 1000
