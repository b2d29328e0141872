"""The documentation site builds without a warning, and stands by itself."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from pairwright.cli import app
from schemas.configs import Config
from tests.docs.pages import ROOT

_CODE = re.compile(r"[A-Z]{3,}(_[A-Z]+)*")
_RAISERS = {"Failure", "RowError", "TemplateError", "Unranked", "RejectedVote"}
"""What carries the reason for which a row leaves the road."""
_NAMED = {
    "reference/schemas.html": ("schemas.records.PreferencePair", "schemas.interfaces.Ranker"),
    "reference/rewards.html": (
        "curation.rewards.rules.LengthReward",
        "curation.rewards.rules.LengthReward.at_most",
        "curation.judges.PairwiseJudge",
    ),
    "reference/pairs.html": ("curation.pairs.AllPairs", "curation.edits.ReplaceName"),
    "reference/formats.html": ("curation.formats.rows.preference_rows",),
    "reference/losses.html": ("dpo.losses.expected_loss", "dpo.pair_losses.ipo_loss"),
    "reference/generators.html": ("curation.generators.TransformersGenerator",),
    "reference/evaluation.html": ("dpo.evaluate.evaluate",),
}


class _Page(HTMLParser):
    """The ids of a page, and what its browser would fetch by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.fetched.append(values.get("src", ""))
        if tag == "link" and values.get("rel") != "canonical":
            self.fetched.append(values.get("href", ""))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the site, and what mkdocs said while it built it."""
    site = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        # The theme tells of its successor on every build, which is no fault of a page.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return site, done.stderr


def test_it_builds_without_a_warning(built: tuple[Path, str]) -> None:
    assert "WARNING" not in built[1]


def test_no_page_fetches_anything_from_elsewhere(built: tuple[Path, str]) -> None:
    pages = sorted(built[0].rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for address in _Page(page.read_text(encoding="utf-8")).fetched:
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"
    for sheet in built[0].rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", sheet.read_text())


@pytest.mark.parametrize("page", _NAMED)
def test_the_reference_shows_what_a_user_calls(built: tuple[Path, str], page: str) -> None:
    ids = _Page((built[0] / page).read_text(encoding="utf-8")).ids
    assert set(_NAMED[page]) <= ids


def test_the_command_line_is_told_in_full(built: tuple[Path, str]) -> None:
    page = (built[0] / "reference/command-line.html").read_text(encoding="utf-8")
    found = list(_commands(typer.main.get_command(app), "pairwright"))
    assert len(found) > 30
    for name, command in found:
        section = _section(page, name.replace(" ", "-"))
        for option in command.params:
            if option.param_type_name == "option" and option.name not in ("debug", "help"):
                assert option.opts[0] in section, f"{name} {option.opts[0]}"


def test_every_key_of_the_config_is_told(built: tuple[Path, str]) -> None:
    page = (built[0] / "reference/config.html").read_text(encoding="utf-8")
    for name, field in Config.model_fields.items():
        assert f"<code>{field.alias or name}</code>" in page
    for key in ("generate-endpoint", "label-gold", "grpo-watch", "ppo", "rounds"):
        assert f'id="{key}"' in page
    assert "<code>concurrency</code>" in _section(page, "generate-endpoint")
    assert "<code>stop_kl</code>" in _section(page, "grpo-watch")


def test_every_reason_code_is_explained() -> None:
    told = set(re.findall(r"`([A-Z_]{3,})`", _reason_codes()))
    raised = set(_raised())
    assert len(raised) > 50
    assert raised <= told, f"not explained: {sorted(raised - told)}"


def test_no_reason_code_is_explained_that_the_code_does_not_know() -> None:
    told = set(re.findall(r"^\| `([A-Z_]{3,})`", _reason_codes(), re.MULTILINE))
    sources = "\n".join(file.read_text(encoding="utf-8") for file in _sources())
    assert not [code for code in told if not re.search(rf"\b{code}\b", sources)]


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for verb, child in children.items():
        yield from _commands(child, f"{name} {verb}")


def _section(page: str, anchor: str) -> str:
    """The page from the heading with that id up to the next heading."""
    return re.split(r"<h[23] id=", page[page.index(f'id="{anchor}"') :], maxsplit=1)[0]


def _reason_codes() -> str:
    return (ROOT / "docs/reference/reason-codes.md").read_text(encoding="utf-8")


def _sources() -> Iterator[Path]:
    for package in ("schemas", "curation", "dpo", "pairwright"):
        yield from (ROOT / package).rglob("*.py")


def _raised() -> Iterator[str]:
    for file in _sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                for value in node.args if name in _RAISERS else ():
                    text = value.value if isinstance(value, ast.Constant) else None
                    if isinstance(text, str) and _CODE.fullmatch(text):
                        yield text
