import json
from pathlib import Path

from pairwright.digests import differences


def test_show_lists_each_stage_with_counts_reasons_and_seconds(whole_run: Path, pairwright) -> None:
    shown = pairwright("show", whole_run, "--json")
    table = pairwright("show", whole_run)

    stages = {stage["stage"]: stage for stage in json.loads(shown.out)["stages"]}
    assert [stage["state"] for stage in stages.values()] == ["complete"] * 9
    assert (
        stages["pair"]["reasons"]
        == json.loads((whole_run / "pair" / "manifest.json").read_text())["reasons"]
    )
    assert stages["generate"]["seconds"] > 0
    assert table.code == 0
    for stage in stages:
        assert stage in table.out


def test_show_names_the_stages_that_no_longer_hold(
    inputs: Path, run_copy: Path, pairwright
) -> None:
    config = inputs / "run.yaml"
    remade = pairwright("pair", config, "--run", run_copy, "pair.strategy=curation.pairs:AllPairs")
    assert remade.code == 0

    stages = json.loads(pairwright("show", run_copy, "--json").out)["stages"]

    states = {stage["stage"]: (stage["state"], stage["why"]) for stage in stages}
    assert states["pair"] == ("complete", "")
    assert states["validate"] == ("stale", "'pair' was made again")
    assert states["dpo"] == ("stale", "'export' is stale")


def test_show_notices_a_changed_prompts_file_and_not_a_deleted_one(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_bytes((inputs / "prompts.jsonl").read_bytes())
    config = tmp_path / "run.yaml"
    config.write_text(
        (inputs / "run.yaml").read_text().replace(str(inputs / "prompts.jsonl"), str(prompts))
    )
    run = tmp_path / "run"
    assert pairwright("generate", config, "--run", run).code == 0

    def state() -> list[str]:
        found = json.loads(pairwright("show", run, "--json").out)["stages"][0]
        return [found["state"], found["why"]]

    assert state() == ["complete", ""]
    prompts.write_text(prompts.read_text() + '{"prompt": "One more?"}\n')
    assert state() == ["stale", f"changed: file:{prompts}"]
    prompts.unlink()
    assert state() == ["complete", ""]


def test_show_holds_a_run_against_a_changed_config(
    inputs: Path, whole_run: Path, tmp_path: Path, pairwright
) -> None:
    config = tmp_path / "changed.yaml"
    text = (inputs / "run.yaml").read_text()
    config.write_text(text.replace("n: 4, max_new_tokens: 24", "n: 5, max_new_tokens: 24"))

    stages = json.loads(pairwright("show", config, "--json").out)["stages"]

    assert stages[0]["state"] == "complete"
    assert stages[1]["state"] == "stale"
    assert stages[1]["why"] == "config changed: n: 4 -> 5"


def test_show_refuses_a_folder_that_is_no_run(tmp_path: Path, pairwright) -> None:
    shown = pairwright("show", tmp_path)

    assert shown.code == 2
    assert "is no run folder" in shown.err


def test_report_is_written_from_the_stored_files(run_copy: Path, pairwright) -> None:
    (run_copy / "report.html").unlink()

    made = pairwright("report", run_copy, "--json")

    assert made.code == 0
    assert Path(json.loads(made.out)["html"]).stat().st_size > 0


def test_a_report_without_the_answers_of_the_evaluation_keeps_its_verdict(
    run_copy: Path, pairwright
) -> None:
    whole = json.loads(Path(written_report(run_copy, pairwright)).read_text())
    (run_copy / "evaluate" / "part-00000.parquet").unlink()
    without = json.loads(Path(written_report(run_copy, pairwright)).read_text())
    assert without["verdict"] == whole["verdict"]


def written_report(run: Path, pairwright) -> str:
    written = pairwright("report", run, "--json")
    assert written.code == 0, written.err
    return str(json.loads(written.out)["json"])


def test_differences_name_each_leaf() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 0}
    now = {"a": 1, "b": {"c": [2], "d": 2}, "new": 0}

    assert differences(before, now) == ["b.c: [1] -> [2]", "gone: 0 -> None", "new: None -> 0"]
