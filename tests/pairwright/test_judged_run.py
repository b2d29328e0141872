"""Runs whose candidates and judgements come from a server."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairwright.stored import columns
from schemas.records import Candidate, Judgement, PairProposal, Ranking
from schemas.run_folder import Manifest, RunFolder
from tests.pairwright.conftest import Command
from tests.serving import Reply, ScriptedServer, asked_text, said, serving

COMPARE = "Q {prompt} A {first} B {second} END"
SECRET = "sk-of-nobody-in-particular"

Reaction = Callable[[int, dict[str, Any]], Reply]
Start = Callable[[Reaction], ScriptedServer]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[ScriptedServer] = []

    def started(reply: Reaction) -> ScriptedServer:
        servers.append(ScriptedServer(reply))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def write_config(folder: Path, inputs: Path, **sections: Any) -> Path:
    """A run of six prompts."""
    lines = (inputs / "prompts.jsonl").read_text().splitlines()[:6]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    config = {
        "run": str(folder / "run"),
        "model": {"path": str(inputs / "model"), "device": "cpu"},
        "prompts": {"path": str(folder / "prompts.jsonl")},
        "evaluate": {"rewards": [{"use": "curation.rewards.rules:LengthReward", "args": LENGTH}]},
        **sections,
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


LENGTH = {"unit": "characters", "target": 30}


def judged_by(url: str, **keys: Any) -> dict[str, Any]:
    endpoint = {"base_url": url, "model": "m", "retries": 0, "concurrency": 1, **keys}
    args = {"endpoint": endpoint, "template": COMPARE, "name": "bench"}
    return {"judge": {"use": "curation.judges:PairwiseJudge", "args": args}}


def sampled_from(url: str, **keys: Any) -> dict[str, Any]:
    """Three samples a prompt, two prompts a part."""
    endpoint = {"base_url": url, "model": "m", "retries": 0, "concurrency": 1, **keys}
    return {"n": 3, "batch_size": 3, "batches_a_part": 2, "endpoint": endpoint}


def manifest(folder: Path, stage: str) -> Manifest:
    return RunFolder(folder / "run").stage(stage).completed()


def shown(body: dict[str, Any]) -> tuple[str, str]:
    """The two answers of a judge's question."""
    _, _, both = asked_text(body).partition(" A ")
    first, _, second = both.removesuffix(" END").rpartition(" B ")
    return first, second


def three_answers(number: int, body: dict[str, Any]) -> Reply:
    """An answer of its own a sample: `0`, `00` or `000` behind the number."""
    return Reply(said(f"answer {number // 3} {'0' * (1 + number % 3)}"))


def longer_but_sways(number: int, body: dict[str, Any]) -> Reply:
    """The longer answer; between the two longest, whatever is shown first."""
    first, second = shown(body)
    if "0" * 2 in first and "0" * 2 in second:
        return Reply(said("[[A]]"))
    return Reply(said("[[A]]" if len(first) > len(second) else "[[B]]"))


def test_a_run_samples_and_judges_over_a_real_server(
    inputs: Path, tmp_path: Path, pairwright: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving(inputs / "model") as endpoint:
        rating = {"endpoint": endpoint, "max_tokens": 4, "name": "rater"}
        config = write_config(
            tmp_path,
            inputs,
            generate={"n": 3, "max_new_tokens": 8, "endpoint": endpoint},
            rank={"rewards": [{"use": "curation.judges:PointwiseJudge", "args": rating}]},
        )
        assert pairwright("generate", config, "--limit", "4").code == 0
        assert pairwright("rank", config, "--limit", "4").code == 0
    run = RunFolder(tmp_path / "run")
    made, candidates = manifest(tmp_path, "generate"), list(run.stage("generate").read(Candidate))
    assert made.counts["prompts"] == 4
    assert made.counts["samples"] == 12 == sum(item.count for item in candidates)
    assert made.counts["unanswered"] == 0
    assert made.facts["usage"]["answers"] == 12
    assert made.facts["usage"]["retries"] == 0
    assert made.facts["usage"]["completion_tokens"] > 12
    assert made.facts["endpoint"]["base_url"] == endpoint["base_url"]
    assert made.facts["template"]["hash"]
    assert {item.origin.generator for item in candidates} == {"endpoint"}
    judged = manifest(tmp_path, "rank")
    judgements = list(run.stage("rank").read(Judgement))
    assert {(item.annotator.kind) for item in judgements} == {"judge"}
    # A random model gives no rating: it abstains about every answer, and no score is zero.
    scores = [score for item in judgements for score in item.scores or ()]
    assert len(scores) == len(candidates)
    assert scores.count(None) == judged.counts["abstained"]
    assert 0.0 not in scores
    assert judged.facts["usage"]["answers"] == len(candidates)
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes()


def test_a_judges_verdicts_become_pairs_and_its_flips_are_reported(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    sampler, judge = start(three_answers), start(longer_but_sways)
    config = write_config(
        tmp_path,
        inputs,
        generate=sampled_from(sampler.url),
        rank=judged_by(judge.url),
        pair={"strategy": "curation.pairs:AllPairs"},
    )
    for verb in ("generate", "rank", "aggregate", "pair"):
        assert pairwright(verb, config).code == 0
    run = RunFolder(tmp_path / "run")
    made = manifest(tmp_path, "rank")
    assert made.counts == {
        "candidates": 18,
        "judgements": 36,
        "abstained": 0,
        "pairs": 18,
        "position_flips": 6,
    }
    assert made.facts["position_flips"] == pytest.approx(1 / 3)
    assert made.facts["first_shown_wins"] == pytest.approx(24 / 36)
    assert made.facts["usage"]["answers"] == len(judge.seen) == 36
    rankings = list(run.stage("aggregate").read(Ranking))
    assert [sorted(ranking.ranks) for ranking in rankings] == [[1, 1, 2]] * 6
    pairs = list(run.stage("pair").read(PairProposal))
    assert len(pairs) == 12
    for pair in pairs:
        assert pair.p_chosen is None
        assert pair.rejected.completion.text.endswith(" 0")
        assert len(pair.chosen.completion.text) > len(pair.rejected.completion.text)


def test_a_spent_budget_stops_the_stage_and_the_same_command_goes_on_where_it_was(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    sampler, judge = start(three_answers), start(longer_but_sways)
    config = write_config(
        tmp_path,
        inputs,
        generate=sampled_from(sampler.url, max_tokens=80),
        rank=judged_by(judge.url, max_tokens=200),
    )
    stopped = pairwright("generate", config)
    assert stopped.code == 2
    assert "the budget of 80 tokens is spent (80 in 8 answers)" in stopped.err
    assert len(sampler.seen) == 8
    assert len(RunFolder(tmp_path / "run").stage("generate").files()) == 1
    assert pairwright("generate", config).code == 2
    # The third time it is done: no answer was paid for twice, though parts were cut off.
    assert pairwright("generate", config).code == 0
    assert len(sampler.seen) == 18
    seeds = Counter(seen.body["seed"] for seen in sampler.seen)
    assert set(seeds.values()) == {1}
    usage = manifest(tmp_path, "generate").facts["usage"]
    assert usage["answers"] + usage["kept"] == 18
    assert not list((tmp_path / "run" / "generate").glob("*.jsonl"))
    codes = [pairwright("rank", config).code for _ in range(2)]
    assert codes == [2, 0]
    assert len(judge.seen) == 36


def test_how_an_endpoint_is_asked_makes_no_stage_stale(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    sampler, judge = start(three_answers), start(longer_but_sways)
    config = write_config(
        tmp_path, inputs, generate=sampled_from(sampler.url), rank=judged_by(judge.url)
    )
    assert pairwright("generate", config).code == 0
    assert pairwright("rank", config).code == 0
    faster = ("generate.endpoint.concurrency=4", "generate.endpoint.max_tokens=9000")
    assert "generate: unchanged, reused" in pairwright("generate", config, *faster).err
    assert pairwright("rank", config, *faster).code == 0
    assert (len(sampler.seen), len(judge.seen)) == (18, 36)
    other = pairwright("generate", config, "generate.endpoint.model=another")
    assert other.code == 0
    assert len(sampler.seen) == 36


def test_prompts_that_a_server_will_not_answer_are_quarantined_and_counted(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    def picky(number: int, body: dict[str, Any]) -> Reply:
        if "number 1." in asked_text(body) or ("number 2." in asked_text(body) and number % 3):
            return Reply({"error": {"code": "content_filter", "message": "not that"}}, 400)
        return three_answers(number, body)

    config = write_config(tmp_path, inputs, generate=sampled_from(start(picky).url))
    assert pairwright("generate", config).code == 0
    made = manifest(tmp_path, "generate")
    assert made.reasons == {"CONTENT_FILTER": 1}
    assert made.facts["unanswered"] == {"CONTENT_FILTER": made.counts["unanswered"]}
    assert (made.counts["prompts"], made.counts["quarantined"]) == (5, 1)
    assert made.counts["samples"] + made.counts["unanswered"] == 18
    refused = columns(RunFolder(tmp_path / "run").stage("generate"), ["message"], "quarantine")
    assert refused["message"].to_pylist() == ["not that"]


def test_a_server_that_answers_nothing_fails_the_stage_in_its_own_words(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    server = start(lambda *_: Reply({"detail": "maximum context length is 4 tokens"}, 400))
    config = write_config(tmp_path, inputs, generate=sampled_from(server.url))
    failed = pairwright("generate", config)
    assert failed.code == 2
    assert "none of 6 prompts has an answer, CONTEXT_LENGTH: maximum context" in failed.err


def test_a_server_that_ignores_the_temperature_is_told_of(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    server = start(lambda _, body: Reply(said(f"to {asked_text(body)}")))
    config = write_config(tmp_path, inputs, generate=sampled_from(server.url))
    done = pairwright("generate", config)
    assert done.code == 0
    assert "all 3 samples of each prompt are the same" in " ".join(done.err.split())


def test_a_judge_that_gives_no_verdict_ranks_nothing_and_every_prompt_says_so(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    judge = start(lambda *_: Reply(said("Both have merits.")))
    config = write_config(
        tmp_path, inputs, generate=sampled_from(start(three_answers).url), rank=judged_by(judge.url)
    )
    for verb in ("generate", "rank", "aggregate"):
        assert pairwright(verb, config).code == 0
    assert manifest(tmp_path, "rank").facts["abstained"] == {"UNPARSABLE": 36}
    assert manifest(tmp_path, "rank").facts["position_flips"] is None
    made = manifest(tmp_path, "aggregate")
    assert (made.counts["rankings"], made.counts["unranked"]) == (0, 6)
    assert made.reasons == {"INCONCLUSIVE": 6}
    paired = pairwright("pair", config)
    assert paired.code == 1
    assert "6 UNSCORED" in paired.err


def test_a_judge_whose_server_goes_away_scores_nothing(
    inputs: Path, tmp_path: Path, start: Start, pairwright: Command
) -> None:
    judge = start(
        lambda number, body: (
            longer_but_sways(number, body) if number < 15 else Reply({"detail": "gone"}, 503)
        )
    )
    config = write_config(
        tmp_path, inputs, generate=sampled_from(start(three_answers).url), rank=judged_by(judge.url)
    )
    assert pairwright("generate", config).code == 0
    failed = pairwright("rank", config)
    assert failed.code == 3
    assert "HTTP 503 (gone" in failed.err
    stage = RunFolder(tmp_path / "run").stage("rank")
    assert len(stage.files()) == 1
    kept = (tmp_path / "run" / "rank" / "answers-0.jsonl").read_text().split("\n")
    assert len([json.loads(line) for line in kept if line]) == 15


def test_votes_methods_are_refused_for_a_judge(
    inputs: Path, tmp_path: Path, pairwright: Command
) -> None:
    config = write_config(
        tmp_path,
        inputs,
        rank=judged_by("http://127.0.0.1:9/v1"),
        aggregate={"method": "majority"},
    )
    refused = pairwright("generate", config)
    assert refused.code == 2
    assert "expected bradley-terry" in " ".join(refused.err.split())
