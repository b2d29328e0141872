"""The home folder of an embedded server: its data, its secrets, and who is serving it."""

import fcntl
import json
import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from schemas.run_folder import write_atomic


class RunningServer(NamedTuple):
    """An embedded server that answers, and the key of its owner."""

    url: str
    api_key: str
    pid: int


def default_home() -> Path:
    """Where the server of this user keeps its data."""
    own = os.environ.get("PAIRWRIGHT_ARGILLA_HOME")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_DATA_HOME")
    data = Path(shared) if shared else Path.home() / ".local" / "share"
    return data / "pairwright" / "argilla"


def running(home: Path | None = None) -> RunningServer | None:
    """The server that serves this home, or the default one, now; None where none does."""
    return Home(home or default_home()).running()


class Home:
    """The folder, and the files in it that have a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.database = self.folder / "argilla.db"
        self._state = self.folder / "running.json"
        self._lock = self.folder / "lock"

    def prepare(self) -> None:
        """Make the folder, for its owner alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in ("tmp", "logs", "redis"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def lock(self) -> int:
        """A file descriptor that holds the home for as long as any process has it open.

        Raises:
            ValueError: another launcher serves this home.
        """
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        patience = time.monotonic() + 5
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                pid, url = self._holder()
                # The members of a launcher that was killed hold the lock a moment longer.
                if (pid and _alive(pid)) or time.monotonic() > patience:
                    os.close(handle)
                    raise ValueError(
                        f"the Argilla home '{self.folder}' is already served at "
                        f"{url or 'an address not yet known'} by process {pid or 'unknown'}; "
                        "use that server, or stop it first"
                    ) from None
            time.sleep(0.05)

    def running(self) -> RunningServer | None:
        pid, url = self._holder()
        if not pid or not url or not _alive(pid) or not self._is_locked():
            return None
        try:
            key = self._secret_path("owner.key").read_text(encoding="utf-8")
        except OSError:
            return None
        return RunningServer(url, key, pid)

    def announce(self, url: str | None) -> None:
        """Say who serves this home and, once it answers, where."""
        state = {"pid": os.getpid(), "url": url}
        write_atomic(self._state, json.dumps(state).encode())

    def retract(self) -> None:
        self._state.unlink(missing_ok=True)

    def secret(self, name: str) -> str:
        """The secret of that name, made once and readable by its owner alone."""
        path = self._secret_path(name)
        if path.exists() and (kept := path.read_text(encoding="utf-8")):
            path.chmod(0o600)
            return kept
        made = secrets.token_urlsafe(48)
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return made

    def _secret_path(self, name: str) -> Path:
        return self.folder / name

    def _holder(self) -> tuple[int | None, str | None]:
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            return int(state["pid"]), state["url"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, None

    def _is_locked(self) -> bool:
        try:
            handle = os.open(self._lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
