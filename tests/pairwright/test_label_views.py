"""Tables about labelling say what was planned, not what the config says now."""

from collections import Counter

import pytest
from rich.console import Console

from curation.argilla.tasks import LabelPlan
from pairwright.labels.views import plan_views
from schemas.configs import LabelConfig, WorkspaceConfig
from tests.pairwright.labelled_run import make_task


@pytest.mark.parametrize(
    ("overlaps", "told"), [([1, 1], "2 records, 1 a record"), ([3, 1], "2 records, 1 to 3 a")]
)
def test_a_plan_tells_the_answers_that_its_records_need(overlaps: list[int], told: str) -> None:
    tasks = [
        make_task(number).model_copy(update={"overlap": overlap})
        for number, overlap in enumerate(overlaps)
    ]
    config = LabelConfig(
        dataset="d", workspaces={"w": WorkspaceConfig(annotators=("a", "b"))}, overlap=2
    )
    console = Console(width=200)
    with console.capture() as capture:
        console.print(*plan_views(LabelPlan(config, tasks, tasks, Counter(NO_ROOM=4), [])))
    assert told in capture.get()
    assert f"{sum(overlaps)} judgements" in capture.get()
    assert "not asked: 4 NO_ROOM" in capture.get()
