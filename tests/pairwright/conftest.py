"""A tiny run of the whole road, made once, and a way to call commands in this process."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.kill_drill import write_inputs
from pairwright.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def pairwright(capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls a command and gives back its exit code and what it printed."""

    def call(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.yaml, prompts.jsonl and a tiny model whose answers end by themselves."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def whole_run(inputs: Path) -> Path:
    """The run that `pairwright run` made; not to be written to."""
    assert main(["run", str(inputs / "run.yaml")]) == 0
    return inputs / "run"


@pytest.fixture
def run_copy(whole_run: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(whole_run, tmp_path / "run"))
