"""Fixtures that all packages share, and the rule that a skipped test fails in CI."""

import os
from collections.abc import Generator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import pytest

from curation.models import Policy, load_policy
from curation.tiny import build_tiny_model
from schemas.configs import ModelConfig

_MAY_SKIP = ("gpu", "browser")
"""Marks of tests that need what a machine may lack."""


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and its ChatML tokenizer."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_policy(tiny_model_folder: Path) -> Policy:
    """The tiny model, loaded on the CPU in float32."""
    import torch

    torch.set_num_threads(1)
    return load_policy(ModelConfig(path=str(tiny_model_folder), device="cpu"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and _in_ci() and not any(map(item.get_closest_marker, _MAY_SKIP)):
        report.outcome = "failed"
        report.longrepr = f"skipped, which fails in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped, which fails in CI: {report.longrepr}"
    return report


def _in_ci() -> bool:
    return os.environ.get("CI") == "true"
