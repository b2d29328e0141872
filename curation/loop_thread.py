"""An event loop beside the caller, so that asynchronous work serves code that is not."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any


class LoopThread:
    """An event loop that runs in a thread of its own, until it is stopped."""

    def __init__(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(ready)), name="event loop", daemon=True
        )
        self._thread.start()
        ready.wait()

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            # Garbage may be collected in any thread, this one too.
            if threading.current_thread() is not self._thread:
                self._thread.join(timeout=5)

    async def _run(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        ready.set()
        await self._stopped.wait()
