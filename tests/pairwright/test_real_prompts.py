"""Five hundred prompts that people wrote, from four files, and every one is accounted for."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

SHARED = Path(__file__).parents[3] / "shared" / "data"
FILES = {
    "ifeval_en.jsonl": 200,
    "oasst_prompts.jsonl": 120,
    "mgsm.jsonl": 100,
    "mtbench_questions.jsonl": 80,
}


@pytest.fixture(scope="module")
def report(inputs, tmp_path_factory):
    missing = [name for name in FILES if not (SHARED / name).is_file()]
    if missing:
        pytest.skip(f"real prompts are read from {SHARED}, which lacks {', '.join(missing)}")
    from pairwright.cli import main

    folder = tmp_path_factory.mktemp("real")
    config = yaml.safe_load((inputs / "run.yaml").read_text())
    config |= {
        "run": str(folder / "run"),
        "prompts": [{"path": str(SHARED / name), "limit": n} for name, n in FILES.items()],
        "generate": {"n": 2, "max_new_tokens": 24, "batch_size": 64},
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    for verb in ("generate", "rank", "aggregate", "pair", "validate", "export"):
        assert main([verb, str(file)]) == 0
    assert main(["report", str(folder / "run")]) == 0
    return folder / "run", json.loads((folder / "run" / "report.json").read_text())


def rows(run: Path, stage: str, kind: str = "part") -> int:
    return sum(pq.read_metadata(file).num_rows for file in (run / stage).glob(f"{kind}-*.parquet"))


def test_the_funnel_adds_up_on_real_prompts(report):
    run, told = report
    read = sum(FILES.values())
    assert rows(run, "prompts") + rows(run, "prompts", "quarantine") == read
    assert told["funnel"]["prompts"] == rows(run, "prompts")
    assert told["funnel"]["candidates"] == rows(run, "generate")
    refused = rows(run, "generate", "quarantine")
    samples = sum(
        sum(pq.read_table(file, columns=["count"])["count"].to_pylist())
        for file in (run / "generate").glob("part-*.parquet")
    )
    assert samples == 2 * (rows(run, "prompts") - refused)
    unused = rows(run, "pair", "unused")
    assert 2 * rows(run, "pair") + unused == rows(run, "generate")
    proposals = rows(run, "pair")
    assert rows(run, "validate") + rows(run, "validate", "quarantine") == proposals
    assert told["funnel"]["pairs"] == rows(run, "validate") == rows(run, "export")
    assert told["funnel"]["quarantined"] == rows(run, "validate", "quarantine")


def test_every_real_prompt_that_gives_no_pair_has_a_reason(report):
    run, _ = report
    with_pair = {
        pair["prompt"]["id"]
        for file in (run / "pair").glob("part-*.parquet")
        for pair in pq.read_table(file, columns=["prompt"]).to_pylist()
    }
    unpaired = [
        row
        for file in (run / "pair").glob("unpaired-*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]
    refused = rows(run, "generate", "quarantine")
    assert all(row["reason"] for row in unpaired)
    assert not with_pair & {row["prompt_id"] for row in unpaired}
    assert len(with_pair) + len(unpaired) + refused == rows(run, "prompts")
