"""The parts of the server: web server and worker, forked from one process, and the migration."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from .connection import open_database, prepare
from .text_index import drop_triggers, ensure_text_index
from .webhooks import notify_only_listeners

_SET_PARENT_DEATH_SIGNAL = 1


def serve(listen: int, told: bytes, watch: Callable[[], None]) -> None:
    """Serve on the socket that was handed over, with a worker as a child.

    The import takes most of the start and of the memory; forked after it, the worker shares both.
    """
    from argilla_server import app

    _use_database_engine()
    notify_only_listeners()
    parent, worker = os.getpid(), os.fork()
    if not worker:
        _run_worker(parent, listen, watch)
    watch()
    with contextlib.closing(open_database("argilla.db")) as connection:
        ensure_text_index(connection)
    owner = json.loads(told or b"null")
    if owner:
        asyncio.run(_create_owner(owner))
    _serve_web(app, listen, worker)


def _serve_web(app: Any, listen: int, worker: int) -> None:
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # A page elsewhere whose name is made to point here does not become one of ours.
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "*.localhost"]
    )
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", timeout_graceful_shutdown=1, lifespan="on"
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_die_without, args=(worker, server), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=listen)])


def _die_without(worker: int, server: Any) -> None:
    """Wait for the worker's end, and end with it unless both were asked to."""
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    time.sleep(0.5)
    if not server.should_exit:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        print(f"the worker {how}", file=sys.stderr, flush=True)
        os._exit(1)


def _run_worker(parent: int, listen: int, watch: Callable[[], None]) -> None:
    """Do the server's jobs one after another, in this process: no child could outlive it."""
    code = 1
    try:
        os.close(listen)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() == parent:
            watch()
            _work()
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _work() -> None:
    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq import SimpleWorker

    _wait_for(REDIS_CONNECTION.ping)
    SimpleWorker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION).work(
        logging_level="WARNING"
    )


def _use_database_engine() -> None:
    """Register the engine, and prepare every connection that the server opens."""
    from argilla_server.database import async_engine, sync_engine
    from sqlalchemy import event

    from . import engine  # noqa: F401

    for each in (sync_engine, async_engine.sync_engine):
        event.listen(each, "connect", lambda connection, _: prepare(connection))


def _wait_for(ping: Callable[[], object]) -> None:
    from redis.exceptions import ConnectionError as NotYet

    for _ in range(100):
        with contextlib.suppress(NotYet):
            ping()
            return
        time.sleep(0.1)


def migrate() -> None:
    """Bring the database of the settings to the newest schema.

    Triggers would call functions that the migration does not know; the next start makes them again,
    with the index.
    """
    import alembic.command
    from alembic.config import Config
    from argilla_server.database import ALEMBIC_CONFIG_FILE

    with contextlib.closing(open_database("argilla.db")) as connection:
        drop_triggers(connection)
        connection.execute("PRAGMA journal_mode = DELETE")
    alembic.command.upgrade(Config(ALEMBIC_CONFIG_FILE), "head")


async def _create_owner(owner: dict[str, str]) -> None:
    from argilla_server.contexts.accounts import hash_password
    from argilla_server.database import AsyncSessionLocal, async_engine
    from argilla_server.models import User

    async with AsyncSessionLocal() as session:
        await User.create(
            session,
            first_name=owner["username"],
            username=owner["username"],
            role=owner["role"],
            password_hash=hash_password(owner["password"]),
            api_key=owner["api_key"],
        )
    await async_engine.dispose()
