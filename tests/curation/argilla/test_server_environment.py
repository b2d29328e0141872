"""The server's environment: whole or made again, by one process at a time."""

import fcntl
import threading
from pathlib import Path

import pytest

from curation.argilla.server import environment
from curation.argilla.server.environment import (
    BOOT,
    CONSTRAINTS,
    Installed,
    ensure_environment,
    environment_folder,
    server_environment,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own, for packages that no index is asked for."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("a-package-that-nobody-made==1.0\n")
    monkeypatch.setattr(environment, "CONSTRAINTS", constraints)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache"


def test_the_installed_environment_is_used_again_without_a_word(argilla_installed: None) -> None:
    said: list[str] = []
    folder = ensure_environment(said.append)
    assert (folder, said) == (environment_folder(), [])
    assert Installed(folder).python.is_file()


def test_what_it_needs_lies_beside_the_code() -> None:
    assert BOOT.is_file()
    pins = CONSTRAINTS.read_text().split()
    assert "argilla-server==2.8.0" in pins
    assert all("==" in pin for pin in pins)


def test_the_folder_changes_with_the_constraints(cache: Path) -> None:
    before = environment_folder()
    environment.CONSTRAINTS.write_text("another-package==2.0\n")
    assert environment_folder() != before
    assert environment_folder().parent == cache


def test_a_failure_of_pip_names_the_step_the_reason_and_the_remedy(cache: Path) -> None:
    said: list[str] = []
    with pytest.raises(OSError, match="step 'install the packages' failed") as caught:
        ensure_environment(said.append)
    assert "a-package-that-nobody-made" in str(caught.value)
    assert "PIP_INDEX_URL" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert said[0] == f"installing the Argilla server, once, into '{environment_folder()}'"


@pytest.mark.parametrize("marker", [None, '{"python": "2.7"}'])
def test_a_half_made_environment_is_made_again(cache: Path, marker: str | None) -> None:
    folder = environment_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/bin/true")
    (folder / "left").write_text("behind")
    (folder / "empty.db").touch()
    if marker is not None:
        (folder / "complete.json").write_text(marker)
    said: list[str] = []
    with pytest.raises(OSError, match="install the packages"):
        ensure_environment(said.append)
    assert said[0] == f"'{folder}' is not whole; it is made again"
    assert not (folder / "left").exists()


def test_a_second_process_waits_for_the_first_and_uses_what_it_made(
    cache: Path, argilla_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said, got = environment_folder(), [], []
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    cache.mkdir()
    waiting = threading.Event()

    def progress(line: str) -> None:
        said.append(line)
        waiting.set()

    second = threading.Thread(target=lambda: got.append(ensure_environment(progress)))
    with open(cache / f".{folder.name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        assert waiting.wait(10)
        folder.symlink_to(real_environment(monkeypatch))
    second.join(10)
    assert got == [folder]
    assert said == ["another process is installing the Argilla server; waiting for it"]


def real_environment(monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as there:
        there.setattr(environment, "CONSTRAINTS", CONSTRAINTS)
        there.delenv("PAIRWRIGHT_CACHE")
        return environment_folder()


def test_a_users_own_settings_of_python_and_argilla_do_not_reach_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ARGILLA_DATABASE_URL", "ARGILLA_API_KEY", "PYTHONPATH", "REDIS_URL"):
        monkeypatch.setenv(name, "mine")
    made = server_environment(tmp_path)
    assert "mine" not in made.values()
    assert made["HF_HUB_OFFLINE"] == made["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert made["ARGILLA_HOME_PATH"] == str(tmp_path)
