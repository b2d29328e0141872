"""The virtual environment of the Argilla server, which pins packages that ours cannot live with."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from curation.argilla.server.processes import clean_environment
from curation.bundled import cache_folder
from schemas.run_folder import write_atomic

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
BOOT = Path(__file__).parent / "plugin" / "boot.py"
_MARKER = "complete.json"

Progress = Callable[[str], None]


class Installed(NamedTuple):
    """An environment that is whole."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def empty_database(self) -> Path:
        """A database with the server's schema and nothing in it."""
        return self.folder / "empty.db"


def ensure_environment(progress: Progress) -> Path:
    """The folder of the server's environment; the first call makes it, which takes a minute.

    Processes that ask at the same time wait for the one that makes it. A virtual environment
    cannot be moved, so it is built in place and a marker is written last: without the marker it
    is built again.

    Raises:
        OSError: it could not be made; the sentence says at which step and how to mend it.
    """
    folder = environment_folder()
    if _is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(folder.with_name(f".{folder.name}.lock"), progress):
        if not _is_whole(folder):
            _build(folder, progress)
    return folder


def environment_folder() -> Path:
    """Where the environment of these constraints and this Python lies."""
    asked = f"{python_tag()}\n{platform.machine()}\n".encode() + CONSTRAINTS.read_bytes()
    return cache_folder() / f"argilla-server-{hashlib.sha256(asked).hexdigest()[:12]}"


def python_tag() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def _is_whole(folder: Path) -> bool:
    """Whether the environment was finished and the Python it stands on is still there."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    installed = Installed(folder)
    return (
        marker == {"python": python_tag()}
        and os.access(installed.python, os.X_OK)
        and installed.empty_database.is_file()
    )


@contextlib.contextmanager
def _only_one(lock: Path, progress: Progress) -> Iterator[None]:
    with open(lock, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is installing the Argilla server; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(folder: Path, progress: Progress) -> None:
    if folder.exists():
        progress(f"'{folder}' is not whole; it is made again")
        shutil.rmtree(folder)
    count = sum(1 for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    installed = Installed(folder)
    progress(f"installing the Argilla server, once, into '{folder}'")
    _step("make a virtual environment", [sys.executable, "-m", "venv", str(folder)])
    progress(f"downloading its {count} packages with pip")
    pip = [str(installed.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _step("install the packages", [*pip, "--requirement", str(CONSTRAINTS)])
    progress("preparing its database")
    migrate(installed, installed.empty_database)
    write_atomic(folder / _MARKER, json.dumps({"python": python_tag()}).encode())
    progress("the Argilla server is installed")


def migrate(installed: Installed, database: Path) -> None:
    """Bring the schema of the database to the server's; a new file is made whole or not at all."""
    work = database.with_name(f".{database.name}.migrating")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        if database.exists():
            shutil.copyfile(database, work / "argilla.db")
        command = [str(installed.python), "-IB", str(BOOT), "migrate"]
        _step("prepare the database", command, folder=work, environment=server_environment(work))
        os.replace(work / "argilla.db", database)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def server_environment(home: Path) -> dict[str, str]:
    """What every process of the server finds in its environment; it must run in the home.

    The path of the database is relative, so that no character of the home can break its URL.
    """
    return {
        **clean_environment(),
        "ARGILLA_HOME_PATH": str(home),
        "ARGILLA_DATABASE_URL": "sqlite+aiosqlite:///argilla.db?check_same_thread=False",
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
        "ARGILLA_SEARCH_ENGINE": "database",
        "ARGILLA_CORS_ORIGINS": "[]",
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TMPDIR": str(home / "tmp"),
    }


def _step(
    what: str,
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment or clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line] or lines or ["nothing"]
        raise OSError(
            f"the Argilla server could not be set up: the step '{what}' failed and said "
            f"'{errors[-1][:300]}'; it needs pip, Python 3.11 to 3.13 and, once, a package index "
            "(of your own with PIP_INDEX_URL or PIP_FIND_LINKS)"
        )
