"""A reader's folder: what the pages tell him to write is written, what they tell him to run is run.

The model that the pages name is a tiny one, put where the bundled model is unpacked to, so that
each command runs as it stands in seconds.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from curation.argilla.server.environment import environment_folder
from curation.bundled import _GGUF_SHA256, _MARKER
from pairwright.cli import main
from schemas.config_files import parse_config
from schemas.configs import Config
from schemas.run_folder import file_sha256
from tests.docs.answering_model import build_answering_model
from tests.docs.pages import ROOT, Block, Command, blocks, commands

_COPIED = ("recipes", "benchmarks")
_NEEDED = {"run": "runs/x", "model": {"path": "m"}, "prompts": {"path": "p.jsonl"}}
_IN_A_SHELL = re.compile(r"[|><&;$]|^(?!pairwright )")
_IN = "in "
"""How the title of a block begins that holds sections for a file that is there."""
_READY = "Ctrl-C stops it"
_START_S = 120
_WHAT_A_READER_TYPES = "What is the capital of Italy?\n"


class PageError(AssertionError):
    """A block of a page that does not do what the page says."""

    def __init__(self, block: Block, found: str) -> None:
        page = block.page.relative_to(ROOT)
        super().__init__(f"{page}:{block.line}: {found}")


def put_model(cache: Path) -> None:
    """Put the tiny model where the bundled one is expected, with the marker that it is whole."""
    folder = cache / f"smollm2-135m-instruct-{_GGUF_SHA256[:12]}"
    build_answering_model(folder)
    digests = {file.name: file_sha256(file) for file in sorted(folder.iterdir())}
    (folder / _MARKER).write_text(json.dumps(digests))


def put_server(cache: Path) -> None:
    """Let the Argilla server that is installed on this machine be found in the cache."""
    installed = environment_folder()
    if installed.is_dir():
        (cache / installed.name).symlink_to(installed)


class Sandbox:
    """A folder in which pages are followed, with an environment of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.untested: list[str] = []
        self._cache = cache
        self._beside: list[subprocess.Popen[bytes]] = []

    @classmethod
    def new(cls, folder: Path, cache: Path) -> "Sandbox":
        folder.mkdir(parents=True)
        for name in _COPIED:
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        data = ROOT.parent / "shared" / "data"
        if data.is_dir():
            (folder.parent / "shared").mkdir(exist_ok=True)
            (folder.parent / "shared" / "data").symlink_to(data)
        return cls(folder, cache)

    def copy(self, folder: Path) -> "Sandbox":
        return Sandbox(Path(shutil.copytree(self.folder, folder, symlinks=True)), self._cache)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PAIRWRIGHT_CACHE": str(self._cache),
            "PAIRWRIGHT_ARGILLA_HOME": str(self.folder.parent / f"{self.folder.name}-argilla"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "BROWSER": "true",
        }

    def follow(self, page: Path) -> None:
        """Do all that the page says, from its first block to its last.

        Raises:
            PageError: the first block that does not do what the page says.
        """
        names: dict[str, Any] = {"__name__": "page"}
        with (
            contextlib.chdir(self.folder),
            _environment(self.environment),
            _own_modules(self.folder),
        ):
            try:
                for block in blocks(page):
                    self._do(block, names)
            finally:
                self._end_beside()

    def _do(self, block: Block, names: dict[str, Any]) -> None:
        if block.title is not None and block.title.startswith(_IN):
            _put_sections(self.folder / block.title.removeprefix(_IN), block.body)
        elif block.title is not None:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body, encoding="utf-8")
        elif block.language == "sh":
            for command in commands(block):
                self._run(block, command)
        elif block.language == "python":
            exec(compile(block.body, f"{block.page.name}:{block.line}", "exec"), names)
        elif block.language == "yaml":
            parse_config(_NEEDED | yaml.safe_load(block.body), as_=Config, where=block.page.name)

    def _run(self, block: Block, command: Command) -> None:
        if command.way == "untested":
            self.untested.append(f"{command.line.strip()} ({command.reason})")
        elif command.line.startswith("make "):
            _check_target(block, command)
        elif command.way == "beside":
            self._start(block, command)
        elif _IN_A_SHELL.search(command.line):
            done = subprocess.run(
                ["bash", "-c", command.line], capture_output=True, text=True, timeout=300
            )
            self._check(block, command, done.returncode, done.stderr or done.stdout)
        else:
            said = io.StringIO()
            with (
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
                _typed(_WHAT_A_READER_TYPES),
            ):
                code = main(shlex.split(command.line, comments=True)[1:])
            self._check(block, command, code, said.getvalue())

    def _check(self, block: Block, command: Command, code: int, said: str) -> None:
        if code != command.code:
            ending = said.strip()[-1500:]
            raise PageError(block, f"'{command.line}' ended with {code}, saying: {ending}")

    def _start(self, block: Block, command: Command) -> None:
        """Start a server and wait until it says that it is there."""
        log = self.folder.parent / f"{self.folder.name}-{len(self._beside)}.log"
        with open(log, "wb") as written:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command.line}"], stdout=written, stderr=subprocess.STDOUT
            )
        self._beside.append(process)
        deadline = time.monotonic() + _START_S
        while _READY not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise PageError(block, f"'{command.line}' did not start: {log.read_text()[-500:]}")
            time.sleep(0.2)

    def _end_beside(self) -> None:
        for process in self._beside:
            process.send_signal(signal.SIGINT)
        for process in self._beside:
            process.wait(timeout=30)
        self._beside.clear()


def _check_target(block: Block, command: Command) -> None:
    """Return if the Makefile knows the target: what it does has tests of its own, or is these."""
    target = shlex.split(command.line, comments=True)[1]
    known = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if known is None or target not in known[1].split():
        raise PageError(block, f"the Makefile has no target '{target}'")


@contextlib.contextmanager
def _typed(text: str) -> Any:
    """A scope in which the text is what is typed into the terminal."""
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = before


def _put_sections(config: Path, body: str) -> None:
    """Put the sections into the config, in place of those of the same name."""
    sections = yaml.safe_load(config.read_text(encoding="utf-8")) | yaml.safe_load(body)
    config.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Any:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _own_modules(folder: Path) -> Any:
    """A scope after which no module that lies in the folder stays imported."""
    path = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
