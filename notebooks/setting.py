"""What all notebooks share: which model they use, how much they do, how their pictures look.

Two environment variables: PAIRWRIGHT_MODEL names another model, a folder or a hub name, and
PAIRWRIGHT_NOTEBOOKS=small asks for the amounts of a test.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

from pairwright.output import quiet_libraries
from pairwright.report.charts import BASE, FAINT, INK, POLICY, WORSE

__all__ = ["BASE", "FAINT", "INK", "MODEL", "POLICY", "SMALL", "WORSE", "amount", "workspace"]

MODEL = os.environ.get("PAIRWRIGHT_MODEL", "smollm2-135m-instruct")
"""The `model.path` of the policy, as a config file names it."""
SMALL = os.environ.get("PAIRWRIGHT_NOTEBOOKS") == "small"
"""Whether the notebook is only to run through, with a tiny model, in seconds."""

_WORKSPACES = Path("runs/notebooks")


def amount(full: int, small: int) -> int:
    """How much to do of something: `full` for a reader, `small` for a test."""
    return small if SMALL else full


def workspace(name: str) -> Path:
    """An empty folder of this name for what a notebook makes: in `runs/notebooks/`, made anew.

    Where the notebook is only to run through it is a temporary one, and real runs stay.
    """
    if SMALL:
        return Path(tempfile.mkdtemp(prefix=f"{name}-"))
    folder = _WORKSPACES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _quiet() -> None:
    quiet_libraries()
    os.environ.setdefault("TQDM_DISABLE", "1")
    # tqdm misses the widgets of Jupyter, which a bar that is off does not need.
    warnings.filterwarnings("ignore", message="IProgress not found")


def _style() -> None:
    import matplotlib.pyplot as plt
    from cycler import cycler
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "font.size": 10,
            "axes.prop_cycle": cycler(color=[POLICY, WORSE, BASE, "#0f766e", "#7c3aed", INK]),
            "axes.titlesize": 10,
            "axes.edgecolor": BASE,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.color": INK,
            "text.parse_math": False,
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
        }
    )


def _threads() -> None:
    import torch

    if SMALL:
        torch.set_num_threads(1)  # Tests run side by side.


_quiet()
_style()
_threads()
