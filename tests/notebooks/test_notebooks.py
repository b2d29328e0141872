"""Every notebook runs through with a tiny model, and is kept as it should be."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from notebooks.render import NotebookFailed, execute, main, notebook_files, page
from notebooks.tidy import tidy

FILES = notebook_files()
_FROM_OUTSIDE = re.compile(r"<script|<link|<iframe|<object|@import|url\((?!#)|src=.(?!data:)")
"""What would make a page fetch something; pictures are inside, as `data:` or as SVG, whose parts
name one another by `#`."""


@pytest.fixture
def small(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Notebooks that start here take the tiny model and write to a folder of the test's.

    A browser puts a socket there, whose path may not be as long as pytest's own folders are.
    """
    monkeypatch.setenv("PAIRWRIGHT_MODEL", str(tiny_model_folder))
    monkeypatch.setenv("PAIRWRIGHT_NOTEBOOKS", "small")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="nb-") as short:
        monkeypatch.setenv("TMPDIR", short)
        yield


def _notebook(file: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    file.write_text(tidy(nbformat.writes(nbformat.v4.new_notebook(cells=cells))), encoding="utf-8")
    return file


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_runs_through_and_its_page_needs_nothing_else(file: Path) -> None:
    html = page(execute(file), file.stem)
    assert not _FROM_OUTSIDE.search(html)
    assert len(html.encode()) < 1_500_000
    assert ".ipynb" not in html


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_is_kept_tidy(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text == tidy(text), "run `python -m notebooks.tidy`"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_links_to_notebooks_that_are_there(file: Path) -> None:
    linked = re.findall(r"\]\((\w+\.ipynb)\)", file.read_text(encoding="utf-8"))
    assert set(linked) <= {other.name for other in FILES}


def test_tidying_takes_outputs_and_keeps_tags(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=7, id="other")
    cell.outputs = [nbformat.v4.new_output("stream", text="2")]
    cell.metadata = nbformat.from_dict({"tags": ["hidden"], "scrolled": True})
    once = tidy(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])))
    (kept,) = nbformat.reads(once, as_version=4).cells
    assert (kept.id, kept.outputs, kept.execution_count) == ("cell-01", [], None)
    assert kept.metadata == {"tags": ["hidden"]}
    assert tidy(once) == once


def test_a_failing_cell_is_one_sentence(tmp_path: Path) -> None:
    file = _notebook(tmp_path / "01_bad.ipynb", "raise ValueError('no such reward')")
    with pytest.raises(NotebookFailed, match=r"^01_bad\.ipynb: ValueError: no such reward$"):
        execute(file)


def test_a_warning_in_the_output_is_refused(tmp_path: Path) -> None:
    file = _notebook(tmp_path / "01_bad.ipynb", "import warnings; warnings.warn('old name')")
    with pytest.raises(NotebookFailed, match=r"01_bad\.ipynb writes to stderr: .*old name"):
        execute(file)


def test_a_hidden_cell_runs_and_is_not_shown(tmp_path: Path) -> None:
    file = _notebook(tmp_path / "01_some.ipynb", "secret = 41", "print(secret + 1)")
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[0].metadata["tags"] = ["hidden"]
    nbformat.write(notebook, file)
    html = page(execute(file), "01_some")
    assert "42" in html
    assert "secret =" not in html


def test_a_notebook_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["88"]) == 1
    assert "no notebook begins with '88'; there are 01_grid_world.ipynb" in capsys.readouterr().err
