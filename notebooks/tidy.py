"""Bring the notebooks into the form in which they are kept: no outputs, ids by place.

python -m notebooks.tidy [FILE ...]
"""

import sys
from pathlib import Path

import nbformat

from notebooks.render import notebook_files

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tidy(text: str) -> str:
    """The notebook's JSON as it is kept; a second time changes nothing."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = nbformat.from_dict(_METADATA)
    notebook.nbformat_minor = 5
    for place, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{place:02}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.source = cell.source.strip()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    written: str = nbformat.writes(notebook)
    return written.rstrip() + "\n"


if __name__ == "__main__":
    for file in [Path(name) for name in sys.argv[1:]] or notebook_files():
        file.write_text(tidy(file.read_text(encoding="utf-8")), encoding="utf-8")
