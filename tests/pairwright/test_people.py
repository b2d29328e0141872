"""What people said: read from a run's stages, shown on its page, and doubted where it should be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curation.gold import MethodAccuracy
from pairwright.report.findings import read_findings
from pairwright.report.people import People, read_people
from schemas.arrow import to_table
from schemas.records import Judgement, Ranking
from tests.pairwright.fake_run import FakeRun, report_of
from tests.pairwright.labelled_run import (
    Answer,
    Panel,
    always_tie,
    right,
    wrong_at_times,
)

GOOD: dict[str, Answer] = {"ann": right, "ben": wrong_at_times, "cem": right}


def labelled(
    folder: Path,
    panel: Panel,
    *,
    excluded: Mapping[str, str] | None = None,
    late: Mapping[str, str] | None = None,
    methods: tuple[MethodAccuracy, ...] = (),
) -> FakeRun:
    """A run as far as rankings by votes; `late` exclusions came after the stage `label`."""
    fake = FakeRun(folder)
    fake.curation(through="generate")
    inputs = {name: stage.digest() for name, stage in fake.run.stages().items()}
    writer = fake.run.stage("label").begin(config={"dataset": "Prefs"}, inputs=inputs, parts=1)
    writer.commit(
        0,
        to_table(panel.judgements, Judgement),
        gold=to_table(panel.gold_judgements, Judgement),
    )
    writer.finish(counts=panel.counts, facts=panel.facts(excluded=excluded, methods=methods))
    not_counted = panel.not_counted({**(excluded or {}), **(late or {})})
    said = len(panel.judgements) + len(panel.gold_judgements)
    fake.write(
        "aggregate",
        Ranking,
        counts={
            "judgements": said,
            "counted": said - sum(not_counted.values()),
            "rankings": 40,
            "unranked": 0,
        },
        facts={"not_counted": not_counted},
        method="majority",
        question="overall",
    )
    return fake


def people_of(fake: FakeRun) -> People:
    people = read_findings(fake.run).people
    assert people is not None
    return people


def doubts_of(fake: FakeRun) -> str:
    return "\n".join(
        text for text in read_findings(fake.run).warnings if not text.startswith("The funnel")
    )


def method(name: Any, right: int, pairs: int, low: float, high: float) -> MethodAccuracy:
    return MethodAccuracy(name, pairs, right, right / pairs, low, high, 0, 0.5)


def test_people_who_agree_leave_nothing_to_doubt(tmp_path: Path) -> None:
    fake = labelled(tmp_path / "run", Panel(GOOD))
    people = people_of(fake)
    assert doubts_of(fake) == ""
    assert people.method == "majority"
    assert people.simulated == frozenset()
    assert tuple(people.unanimity) == (32, 8, 0)
    # ben is wrong on the first of four, the others never.
    assert (people.gold.count, people.gold.of) == (11, 12)


def test_scripts_are_called_simulated_first_of_all(tmp_path: Path) -> None:
    panel = Panel({f"simulated-{name}": answer for name, answer in GOOD.items()})
    fake = labelled(tmp_path / "run", panel)
    page, data = report_of(fake.run)
    assert data["warnings"][0].startswith("The annotators of this run are simulated: scripts")
    assert data["labelling"]["simulated"] == ["simulated-ann", "simulated-ben", "simulated-cem"]
    assert "No person answered here." in page.text
    assert "120 simulated judgements and 12 on gold questions" in page.text


def test_scripts_among_people_are_named(tmp_path: Path) -> None:
    fake = labelled(tmp_path / "run", Panel({**GOOD, "simulated-dan": right}))
    assert "1 of 4 annotators are simulated" in doubts_of(fake)
    assert "simulated-dan" in doubts_of(fake)


def test_who_does_not_read_is_suspected_by_name(tmp_path: Path) -> None:
    fake = labelled(tmp_path / "run", Panel({**GOOD, "eve": always_tie}))
    assert "Annotator eve does not answer like one who reads" in doubts_of(fake)
    assert "pairwright label exclude" in doubts_of(fake)


def test_who_is_excluded_is_suspected_no_more_and_shown_with_the_reason(tmp_path: Path) -> None:
    panel = Panel({**GOOD, "eve": always_tie})
    fake = labelled(tmp_path / "run", panel, excluded={"eve": "ties <b>only</b>"})
    page, data = report_of(fake.run)
    assert "eve" not in doubts_of(fake)
    assert "Excluded: ties <b>only</b>." in page.text
    assert data["labelling"]["excluded"] == {"eve": "ties <b>only</b>"}
    assert data["labelling"]["not_counted"] == {"EXCLUDED": 44}
    assert people_of(fake).gold.of == 12


def test_exclusion_after_the_answers_were_frozen_is_told(tmp_path: Path) -> None:
    fake = labelled(tmp_path / "run", Panel(GOOD), late={"ben": "gone"})
    assert "44 answers of annotators excluded later do not count" in doubts_of(fake)


def test_little_agreement_and_wrong_gold_are_doubted(tmp_path: Path) -> None:
    def at_random(seed: int) -> Answer:
        return lambda number: (1, 2) if (number * 2654435761 + seed * 97) % 7 < 4 else (2, 1)

    panel = Panel({name: at_random(seed) for seed, name in enumerate(GOOD)}, gold=40)
    fake = labelled(tmp_path / "run", panel)
    assert "Annotators agree little: Krippendorff's alpha is" in doubts_of(fake)
    assert "of 120 gold questions right" in doubts_of(fake)


def test_one_annotator_is_told_that_agreement_cannot_be_known(tmp_path: Path) -> None:
    fake = labelled(tmp_path / "run", Panel({"ann": right}))
    assert "There is one annotator, so agreement cannot be known." in doubts_of(fake)
    page, _ = report_of(fake.run)
    assert "1 person answered." in page.text


def test_method_clearly_worse_against_gold_is_told(tmp_path: Path) -> None:
    worse = (method("mace", 90, 100, 0.83, 0.94), method("majority", 60, 100, 0.5, 0.69))
    fake = labelled(tmp_path / "worse", Panel(GOOD), methods=worse)
    assert (
        "Method 'majority' is right on 60% of 100 gold pairs, 'mace' on 90%; "
        "consider aggregate.method=mace."
    ) in doubts_of(fake)
    perhaps = (method("mace", 9, 10, 0.6, 0.98), method("majority", 6, 10, 0.31, 0.83))
    fake = labelled(tmp_path / "perhaps", Panel(GOOD), methods=perhaps)
    assert "Method" not in doubts_of(fake)
    assert "10 gold pairs cannot tell methods apart" in report_of(fake.run)[0].text


def test_page_draws_annotators_and_votes(tmp_path: Path) -> None:
    fake = labelled(tmp_path / "run", Panel(GOOD))
    page, data = report_of(fake.run)
    assert "people" in page.ids
    assert page.tags.count("svg") == 3
    assert data["labelling"]["agreement"]["overall"]["compared"] == 40
    assert len(data["labelling"]["annotators"]) == 3
    assert "label" not in data["missing"]


def test_names_and_titles_are_shown_literally(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\u202e&{{ 7 * 7 }}"
    fake = labelled(tmp_path / "run", Panel({**GOOD, name: always_tie}))
    page, data = report_of(fake.run)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>⟨U+202E⟩&{{ 7 * 7 }}" in page.text
    assert any(row["annotator"] == name for row in data["labelling"]["annotators"])


def test_run_without_people_says_nothing_of_them(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path / "run")
    fake.curation()
    page, data = report_of(fake.run)
    assert data["labelling"] is None
    assert "people" not in page.ids
    assert "label" not in data["missing"]


def test_run_whose_config_asks_people_misses_them(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path / "run")
    fake.curation(through="generate")
    (fake.run.path / "config.yaml").write_text(
        "run: x\nmodel: {path: m}\nprompts: {path: p.jsonl}\n"
        "label: {dataset: D, workspaces: {team: {annotators: [ann]}}}\n"
    )
    _, data = report_of(fake.run)
    assert data["missing"]["label"] == "people were not asked"
    assert "rank" not in data["missing"]


def test_stage_of_another_version_is_an_error(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path / "run")
    fake.write("label", Judgement, counts={}, facts={"dataset": "D"})
    manifest = fake.run.stage("label").manifest()
    assert manifest is not None
    with pytest.raises(ValueError, match="run label again"):
        read_people(fake.run, {"label": manifest})
