"""Starts the server, or its migration: `python -I boot.py serve|migrate`.

The plug-in is loaded by its path under one name, so that nothing beside it can be imported.
"""

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path

_HERE = Path(__file__).parent
_NAME = "pairwright_plugin"


def _load_plugin() -> None:
    spec = importlib.util.spec_from_file_location(
        _NAME, _HERE / "__init__.py", submodule_search_locations=[str(_HERE)]
    )
    assert spec
    sys.modules[_NAME] = importlib.util.module_from_spec(spec)


def _die_with_parent(pipe: int, also: list[int]) -> None:
    """Be killed, and kill the others, when the launcher is gone: its end of the pipe closes."""

    def wait() -> None:
        while os.read(pipe, 1):
            pass
        for pid in [*also, os.getpid()]:
            os.kill(pid, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("serve", "migrate"))
    parser.add_argument("--parent", type=int)
    parser.add_argument("--kill", type=int, action="append", default=[])
    parser.add_argument("--listen", type=int)
    options = parser.parse_args()
    _load_plugin()
    parts = importlib.import_module(f"{_NAME}.parts")
    if options.part == "serve":
        told = sys.stdin.buffer.read()
        parts.serve(options.listen, told, lambda: _die_with_parent(options.parent, options.kill))
    else:
        parts.migrate()


if __name__ == "__main__":
    main()
