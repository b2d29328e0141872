"""What a command prints: its result on stdout, all else on stderr."""

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType

_WIDE = 120
"""Columns where the result is read by no terminal."""


class Output:
    """Prints a command's result, as tables for people or as one JSON document."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A scope in which what libraries print does not mix with the result.

        Raises:
            ValueError: code that runs in it, such as a user's reward, would end the program.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except SystemExit as ended:
            # Not a result: with exit(0) a stage that was not made would look done.
            raise ValueError(
                f"code that the config names called exit({ended.code if ended.code else ''}); "
                "expected it to return, or to raise an error that says what is wrong"
            ) from ended

    def result(self, data: Any, *views: RenderableType) -> None:
        if self.as_json:
            write_json(data)
            return
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal or pipe that is not in UTF-8 shows what it can.
            sys.stdout.reconfigure(errors="replace")
        # Names out of people's files, such as [/INST], are no markup.
        width = None if sys.stdout.isatty() else _WIDE
        console = _Console(width=width, markup=False, emoji=False)
        for view in views:
            console.print(view, highlight=False)


class _Console(Console):
    """On stdout; it stays quiet when its reader has gone."""

    def on_broken_pipe(self) -> None:
        drop_stdout()
        raise SystemExit(0)


def write_json(data: Any) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except UnicodeEncodeError:
        sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
    except BrokenPipeError:
        drop_stdout()


def open_streams() -> None:
    """Let what is printed go nowhere where the command was started with stdout or stderr closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for good)


def drop_stdout() -> None:
    """Send what is still to be written to stdout nowhere: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet_libraries() -> None:
    """Keep libraries from talking between our lines, unless the user's environment says else."""
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning)
