"""Pairs with a known winner, sent down the whole road: no tie, swap, loss or wrong sign gets by.

Two roads lead to pairs, from a reward's scores and from people's answers in a live Argilla, and
both are gone with the stages that every run uses. Only the sampling is left out, as what is planted
stands for it. On the road without pairs, where a policy learns online from its own answers, the
reward is planted.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pairwright.progress import Progress
from pairwright.selftest.laws import Law, laws_table, summed
from pairwright.selftest.online import examine_online
from pairwright.selftest.planted_prompts import planted_pairs, planted_rankings
from pairwright.selftest.planted_run import one_thread
from pairwright.selftest.scores import examine_scores
from pairwright.selftest.votes import VotesRoad

__all__ = ["Law", "examine_road", "laws_table", "own_server"]

_HOME = "PAIRWRIGHT_ARGILLA_HOME"


def examine_road(progress: Progress) -> list[Law]:
    """What must hold on both roads, and how often it did.

    Raises:
        OSError: Argilla's server cannot be installed or started.
    """
    with tempfile.TemporaryDirectory(prefix="pairwright-selftest-") as name, one_thread():
        folder = Path(name)
        with own_server(folder / "argilla", progress):
            laws = [*_votes_laws(folder, progress)]
        laws += examine_scores(folder, progress)
        laws += examine_online(folder, progress)
    return summed(laws)


@contextlib.contextmanager
def own_server(home: Path, progress: Progress) -> Iterator[None]:
    """A scope in which the labelling server of this process is a fresh one in that folder."""
    from curation.argilla.server.background import start_background

    before = os.environ.get(_HOME)
    os.environ[_HOME] = str(home)
    try:
        with start_background(home, progress=lambda line: progress.line(f"selftest: {line}")):
            yield
    finally:
        if before is None:
            del os.environ[_HOME]
        else:
            os.environ[_HOME] = before


def _votes_laws(folder: Path, progress: Progress) -> Iterator[Law]:
    yield from VotesRoad(folder, folder / "pairs", "pairwise", planted_pairs(), progress).walk()
    yield from VotesRoad(folder, folder / "ranks", "ranking", planted_rankings(), progress).walk()
