"""The members of the process tree: started so that none outlives the launcher."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1
_FOREIGN = ("ARGILLA_", "PYTHON", "ALEMBIC_", "UVICORN_", "RQ_", "REDIS_")


def clean_environment() -> dict[str, str]:
    """The environment without what steers Python or an Argilla of the user's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


class Member:
    """One running process of the tree, and the file that it writes its log to."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        hand_over: Sequence[int],
        told: bytes = b"",
    ) -> None:
        self.name = name
        self._log = log
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=hand_over,
                start_new_session=True,
                preexec_fn=_dies_with_parent(),
            )
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(told)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def ending(self) -> str:
        """How it ended and the last line of its log, for an error."""
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"{self.name} {how}; {self._last_words()}"

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), None)
        where = f"its log is '{self._log}'"
        return (
            f"its last line was: {said[:300]} ({where})" if said else f"it said nothing ({where})"
        )

    def ask_to_stop(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        """To the member and its children: it leads a process group of its own."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def wait(self, until: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))


def stop_all(members: Sequence[Member], *, seconds: float = 2.0) -> None:
    """Stop the members and then the first, which the others stand on; kill who takes too long."""
    until = time.monotonic() + seconds
    for group in (members[1:], members[:1]):
        for member in group:
            member.ask_to_stop()
        for member in group:
            member.wait(until)
            member.kill()
            member.wait(time.monotonic() + seconds)


def _dies_with_parent() -> Callable[[], None] | None:
    """What a child runs so that the kernel kills it with us; elsewhere a pipe has to do."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def run() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal.SIGKILL)

    return run
