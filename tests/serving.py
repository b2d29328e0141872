"""Servers that tests ask: `transformers serve` on a model folder, and one that fails as it is told.

The second stands in for what a healthy server does not do; answers themselves come from the first.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

SAMPLES = {"generation_config": '{"do_sample": true, "top_k": 0}'}
"""`extra` for `transformers serve`, which decodes greedily unless it is told this."""

_START_S = 90


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[dict[str, Any]]:
    """The endpoint config of a `transformers serve` process that has the folder's model loaded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")),
        *("serve", str(folder), "--host", "127.0.0.1", "--port", str(port)),
        *("--device", "cpu", "--log-level", "error"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health")
        yield {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "model": str(folder),
            "concurrency": 1,
            "extra": SAMPLES,
        }
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(process: "subprocess.Popen[bytes]", health: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "transformers serve ended by itself"
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(health, timeout=2).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"transformers serve was not there after {_START_S} seconds")


class Reply(NamedTuple):
    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}
    after: float = 0.0
    """Seconds to wait before it is sent."""


class Seen(NamedTuple):
    at: float
    body: dict[str, Any]
    headers: dict[str, str]


class ScriptedServer:
    """Replies to chat completions as a function of the request's number and body says."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.seen: list[Seen] = []
        self.at_once = 0
        """The most requests that it had in hand at one time."""
        self._in_hand = 0
        self._lock = threading.Lock()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = scripted._answer(
                    body, {key.lower(): text for key, text in self.headers.items()}
                )
                raw = isinstance(answer.body, str)
                data = (answer.body if raw else json.dumps(answer.body)).encode()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(answer.status)
                    self.send_header("content-type", "text/html" if raw else "application/json")
                    self.send_header("content-length", str(len(data)))
                    for key, value in answer.headers.items():
                        self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Nothing: the test says what it saw."""

        self._reply = reply
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self._lock:
            number = len(self.seen)
            self.seen.append(Seen(time.monotonic(), body, headers))
            self._in_hand += 1
            self.at_once = max(self.at_once, self._in_hand)
        answer = self._reply(number, body)
        time.sleep(answer.after)
        with self._lock:
            self._in_hand -= 1
        return answer


def said(content: str | None, finish: str = "stop", *, tokens: int = 10, **message: Any) -> Any:
    """The body of a chat completion that took so many tokens."""
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {
            "prompt_tokens": tokens - 1,
            "completion_tokens": 1,
            "total_tokens": tokens,
        },
    }


def asked_text(body: Mapping[str, Any]) -> str:
    """The last message of a request."""
    return str(body["messages"][-1]["content"])
