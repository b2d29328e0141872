"""Run the notebooks and write them, with what they showed, as pages into docs/notebooks.

    python -m notebooks.render          all of them
    python -m notebooks.render 02 05    some

A page needs nothing but itself: pictures are inside, and there is no script.
"""

import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from notebooks.setting import MODEL

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "notebooks"
_TEMPLATE = HERE / "page.html"
_LINK = re.compile(r"(\]\(\d\d_\w+)\.ipynb")
_HIDDEN = "hidden"
"""Cells of this tag run and are not shown."""


class NotebookFailed(RuntimeError):  # noqa: N818
    """A cell failed, or wrote to stderr, where a reader expects to see neither."""


def notebook_files(wanted: Iterable[str] = ()) -> list[Path]:
    """The notebooks whose names begin as wanted, in order; by default all.

    Raises:
        ValueError: a name that is wanted is no notebook's.
    """
    files = sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    starts = tuple(wanted)
    for start in starts:
        if not any(file.name.startswith(start) for file in files):
            names = ", ".join(file.name for file in files)
            raise ValueError(f"no notebook begins with '{start}'; there are {names}")
    return [file for file in files if not starts or file.name.startswith(starts)]


def execute(file: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run where Jupyter runs it: in its own folder.

    Raises:
        NotebookFailed: a cell failed, or wrote to stderr; one sentence that says which and what.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(file.parent)}},
        # The kernel would warn of every port on this machine that its words are not encrypted.
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookFailed(f"{file.name}: {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise NotebookFailed(f"{file.name}: its process ended; perhaps memory ran out") from error
    for output in _outputs(notebook):
        if output.get("name") == "stderr":
            raise NotebookFailed(f"{file.name} writes to stderr: {output.text.strip()}")
    return notebook


def page(notebook: nbformat.NotebookNode, name: str) -> str:
    """The notebook as one HTML file; links to other notebooks go to their pages."""
    from jinja2 import Template
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    shown = nbformat.from_dict(notebook)
    shown.cells = [cell for cell in shown.cells if _HIDDEN not in cell.metadata.get("tags", ())]
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(r"\1.html", cell.source)
    settings = {"template_name": "basic", "exclude_input_prompt": True}
    settings |= {"exclude_output_prompt": True, "exclude_anchor_links": True}
    body, _ = HTMLExporter(config=Config(HTMLExporter=settings)).from_notebook_node(shown)
    template = Template(_TEMPLATE.read_text(encoding="utf-8"), autoescape=False)
    html: str = template.render(title=_title(notebook) or name, body=body, others=_others(name))
    return html


def _outputs(notebook: nbformat.NotebookNode) -> Iterable[Any]:
    return (output for cell in notebook.cells for output in cell.get("outputs", ()))


def _title(notebook: nbformat.NotebookNode) -> str:
    first = str(notebook.cells[0].source) if notebook.cells else ""
    return next((line[2:] for line in first.splitlines() if line.startswith("# ")), "")


def _others(name: str) -> list[tuple[str, str, bool]]:
    """Number, page and whether it is this one, of every notebook."""
    return [(file.name[:2], f"{file.stem}.html", file.stem == name) for file in notebook_files()]


def main(wanted: list[str]) -> int:
    """0 where every page was written, else 1; the reason goes to stderr."""
    from curation.models import model_folder
    from schemas.configs import ModelConfig

    try:
        files = notebook_files(wanted)
        model_folder(ModelConfig(path=MODEL))
        PAGES.mkdir(parents=True, exist_ok=True)
        for file in files:
            start = time.monotonic()
            html = page(execute(file), file.stem)
            (PAGES / f"{file.stem}.html").write_text(html, encoding="utf-8")
            spent, size = time.monotonic() - start, len(html.encode()) / 1e6
            print(f"docs/notebooks/{file.stem}.html: {spent:.0f} s, {size:.2f} MB", flush=True)
    except (NotebookFailed, ValueError, ModuleNotFoundError) as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
