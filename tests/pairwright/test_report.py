"""The report of a run: its figures, what is missing from it, and that it stands alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo.summary import EvaluationRecord
from pairwright.report.write import write_report
from schemas.records import Candidate, Prompt
from schemas.run_folder import RunFolder
from tests.pairwright.fake_run import (
    CONFIDENCE,
    ROAD,
    FakeRun,
    Page,
    make_prompt,
    make_sample,
    report_of,
)


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with every stage complete."""
    whole = FakeRun(tmp_path_factory.mktemp("whole") / "demo")
    whole.curation()
    whole.training()
    whole.evaluation()
    return whole.run


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Page:
    return report_of(run)[0]


@pytest.fixture(scope="module")
def data(run: RunFolder) -> dict[str, Any]:
    return report_of(run)[1]


def test_page_fetches_nothing_and_runs_nothing(run: RunFolder, page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert page.tags.count("svg") == 8
    text = (run.path / "report.html").read_text(encoding="utf-8")
    assert "url(http" not in text
    assert "@import" not in text


def test_sections_come_in_the_order_in_which_they_are_read(page: Page) -> None:
    measured = ["kinds", "wins", "length", "kl"]
    order = [*measured, "training", "funnel", "generation", "gate", "samples", "provenance"]
    assert [name for name in page.ids if name in order] == order
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_json_holds_the_funnel_and_the_gain(data: dict[str, Any]) -> None:
    funnel = data["funnel"]
    assert (funnel["prompts"], funnel["samples"], funnel["candidates"]) == (12, 48, 36)
    assert (funnel["proposals"], funnel["pairs"], funnel["quarantined"]) == (10, 8, 2)
    assert (funnel["train"], funnel["test"]) == (6, 2)
    assert funnel["adds_up"]
    evaluation = data["evaluation"]
    gain = evaluation["reward_gain"]
    assert 0.2 < gain["low"] < gain["mean"] < gain["high"] < 0.4
    for key in ("win_rate", "kl_per_token"):
        assert evaluation[key]["low"] <= evaluation[key]["mean"] <= evaluation[key]["high"]
    assert evaluation["length"]["before"] > evaluation["length"]["after"]
    assert [item["kind"] for item in evaluation["by_kind"]] == ["bullets", "no_commas"]
    assert data["training"]["confidence"] == CONFIDENCE
    assert (data["training"]["steps"], data["training"]["first_loss"]) == (6, 0.6875)
    assert (data["missing"], data["warnings"]) == ({}, [])
    assert data["verdict"]["outcome"] == "better"
    assert data["gate"]["reasons"] == {"TRUNCATED_CANDIDATE": 2}


def test_page_says_what_was_measured_and_how(page: Page, data: dict[str, Any]) -> None:
    for text in (
        "The policy got better.",
        "3 DUPLICATE_PROMPT",
        "All lines add up.",
        "exact over the vocabulary",
        "where length did not change",
        "no pair carries one",
        "<|im_end|>",
        data["provenance"]["dpo"]["fingerprint"],
    ):
        assert text in page.text


def test_command_traces_a_pair_that_was_trained_on(run: RunFolder, page: Page) -> None:
    assert f"pairwright trace {run.path} pair-1" in page.text


def test_same_run_gives_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    one, two = write_report(run, tmp_path / "one"), write_report(run, tmp_path / "two")
    assert one.html.read_bytes() == two.html.read_bytes()
    assert one.json.read_bytes() == two.json.read_bytes()


def test_json_holds_no_clock(data: dict[str, Any]) -> None:
    text = json.dumps(data)
    assert "seconds" not in text
    assert "cache_hit" not in text


def test_report_needs_no_model_library(run: RunFolder, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from schemas.run_folder import RunFolder; "
        "from pairwright.report.write import write_report; "
        f"write_report(RunFolder(Path({str(run.path)!r})), Path({str(tmp_path)!r})); "
        "print([n for n in ('torch', 'transformers', 'trl', 'datasets') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("through", ROAD)
def test_unfinished_run_is_reported_as_far_as_it_went(fake: FakeRun, through: str) -> None:
    fake.curation(through=through)
    page, data = report_of(fake.run)
    stages = [*ROAD, "dpo", "evaluate"]
    assert list(data["missing"]) == stages[stages.index(through) + 1 :]
    assert data["verdict"]["outcome"] == "not_measured"
    assert data["evaluation"] is None
    assert data["training"] is None
    assert "Not measured yet." in page.text
    assert "no policy was trained" in page.text


def test_trained_but_unmeasured_run_shows_its_curves(fake: FakeRun) -> None:
    fake.curation()
    fake.training()
    page, data = report_of(fake.run)
    assert list(data["missing"]) == ["evaluate"]
    assert page.tags.count("svg") == 3


def test_stage_that_was_begun_and_not_finished_is_said_to_be(fake: FakeRun) -> None:
    fake.curation(through="prompts")
    fake.run.stage("generate").begin(config={}, inputs={}, parts=3)
    _, data = report_of(fake.run)
    assert data["missing"]["generate"] == "it was begun and is not finished"
    assert data["funnel"]["candidates"] is None


def test_run_of_edited_pairs_misses_no_ranking(fake: FakeRun) -> None:
    fake.curation(through="generate")
    fake.run.stage("pair").begin(config={"edit": "edits:identity"}, inputs={}, parts=1)
    _, data = report_of(fake.run)
    assert list(data["missing"]) == ["pair", "validate", "export", "dpo", "evaluate"]


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run folder"):
        write_report(RunFolder(tmp_path), tmp_path)


def test_summary_of_another_version_is_an_error(fake: FakeRun) -> None:
    fake.write("evaluate", EvaluationRecord, counts={}, facts={"reward": 1.0})
    with pytest.raises(ValueError, match="run evaluate again"):
        write_report(fake.run, fake.run.path)


def test_unused_confidence_and_ill_health_are_flagged(fake: FakeRun) -> None:
    fake.curation()
    unused = {**CONFIDENCE, "requested": False, "pairs_below_one": 5}
    fake.training(confidence=unused, health=["SATURATED: from step 2"])
    page, data = report_of(fake.run)
    assert [text for text in data["warnings"] if "did not use it" in text]
    assert "SATURATED: from step 2" in data["warnings"]
    assert "not used, though 5 pairs carry one" in page.text


def test_used_confidence_is_told(fake: FakeRun) -> None:
    fake.curation()
    used = {**CONFIDENCE, "used": True, "pairs_below_one": 5, "weights_other_than_one": 2}
    fake.training(confidence=used)
    page, data = report_of(fake.run)
    assert data["warnings"] == []
    assert "5 have p_chosen below 1 and 2 a weight other than 1" in page.text


def test_stage_made_from_an_older_input_is_flagged(fake: FakeRun) -> None:
    fake.curation(through="generate")
    fake.write("prompts", Prompt, [make_prompt("new")], counts={"read": 1, "prompts": 1}, limit=1)
    _, data = report_of(fake.run)
    assert "Stage 'generate' is stale: 'prompts' was made again after it." in data["warnings"]
    assert not data["funnel"]["adds_up"]


def test_many_truncated_candidates_are_flagged(fake: FakeRun) -> None:
    fake.write(
        "generate",
        Candidate,
        counts={"prompts": 5, "samples": 10, "candidates": 10, "truncated": 3},
    )
    _, data = report_of(fake.run)
    assert data["warnings"] == ["3 of 10 candidates were cut off at the token limit."]


def test_texts_are_shown_literally(tmp_path: Path) -> None:
    prompt = make_prompt(
        "<script>alert('p')</script> & {{ 7 * 7 }}", "<b>$x_1$</b>\u202e", "日本語"
    )
    text = "<img src=x onerror=alert(1)>\x00\x1b[31m \u202etxt מילה 👩‍👧"
    record = EvaluationRecord(
        prompt=prompt,
        base=(make_sample(prompt, text, 0.0),),
        policy=(make_sample(prompt, "", 1.0, kl=0.1),),
    )
    fake = FakeRun(tmp_path / "run <i>&")
    fake.evaluation([record, record])
    page, data = report_of(fake.run)
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert('p')</script> & {{ 7 * 7 }}" in page.text
    assert "<img src=x onerror=alert(1)>␀␛[31m ⟨U+202E⟩txt מילה 👩‍👧" in page.text
    assert "<b>$x_1$</b>⟨U+202E⟩ (2)" in page.text
    assert "(empty)" in page.text
    assert data["run"] == "run <i>&"
