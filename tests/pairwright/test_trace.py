import json
import shutil
from pathlib import Path

import pytest

from pairwright.trace.history import trace_pair
from schemas.records import Candidate, PairProposal, PreferencePair
from schemas.run_folder import RunFolder


def trained_pair(run: Path) -> PreferencePair:
    pairs = RunFolder(run).stage("validate").read(PreferencePair)
    return next(pair for pair in pairs if pair.split == "train")


def quarantined_ids(run: Path) -> set[str]:
    proposed = {pair.id for pair in RunFolder(run).stage("pair").read(PairProposal)}
    passed = {pair.id for pair in RunFolder(run).stage("validate").read(PreferencePair)}
    return proposed - passed


@pytest.fixture
def run_without_models(inputs: Path, run_copy: Path, pairwright) -> Path:
    """A run whose model, policy and inputs are gone, and which has a quarantined pair."""
    gated = pairwright("run", inputs / "run.yaml", "--run", run_copy, "validate.min_margin=0.15")
    assert gated.code == 0, gated.err
    shutil.rmtree(run_copy / "dpo" / "policy")
    shutil.rmtree(run_copy / "dpo" / "checkpoints")
    return run_copy


def test_a_trained_pair_is_followed_from_its_prompt_to_its_steps(run_without_models: Path) -> None:
    run = RunFolder(run_without_models)
    pair = trained_pair(run.path)

    history = trace_pair(run, pair.id)

    assert history.pair == PairProposal(**pair.model_dump(exclude={"split"}))
    of_prompt = {
        one.id for one in run.stage("generate").read(Candidate) if one.prompt_id == pair.prompt.id
    }
    assert {side.candidate.id for side in history.candidates} == of_prompt
    roles = {side.candidate.id: side.role for side in history.candidates}
    assert roles[pair.chosen.id] == "chosen"
    assert roles[pair.rejected.id] == "rejected"
    scores = {side.candidate.id: side.score for side in history.candidates}
    assert scores[pair.chosen.id] - scores[pair.rejected.id] == pytest.approx(pair.margin)
    assert {item.id for item in history.judgements} == set(pair.judgement_ids)
    assert history.ranking is not None
    assert history.template["hash"] == pair.rejected.origin.template
    assert history.sampling["temperature"] == 1.0
    assert history.verdict is not None
    assert (history.verdict.passed, history.verdict.split) == (True, "train")
    assert history.dataset_split == "train"
    assert history.dataset_row["margin"] == pair.margin
    assert len(history.steps) == 2  # one an epoch
    assert [int(step.epoch - 1e-6) for step in history.steps] == [0, 1]


def test_a_quarantined_pair_tells_why_and_was_never_trained_on(run_without_models: Path) -> None:
    run = RunFolder(run_without_models)
    (first, *_) = sorted(quarantined_ids(run.path))

    history = trace_pair(run, first)

    assert history.verdict is not None
    assert not history.verdict.passed
    assert history.verdict.code in run.stage("validate").completed().reasons
    assert history.verdict.message
    assert (history.dataset_split, history.dataset_row, history.steps) == (None, None, ())


def test_the_command_prints_the_history_for_people_and_for_programs(
    run_without_models: Path, pairwright
) -> None:
    pair = trained_pair(run_without_models)

    told = pairwright("trace", run_without_models, pair.id)
    data = pairwright("trace", run_without_models, pair.id, "--json")

    assert told.code == data.code == 0
    for word in (pair.id, pair.prompt.messages[0].content, "chosen", "passed, split train", "step"):
        assert word in told.out
    assert json.loads(data.out)["pair"]["id"] == pair.id


def test_a_unique_start_of_the_id_is_enough(whole_run: Path) -> None:
    run = RunFolder(whole_run)
    pair = trained_pair(whole_run)

    assert trace_pair(run, pair.id[:16]).pair.id == pair.id
    assert trace_pair(run, pair.id.removeprefix("pair-")).pair.id == pair.id
    with pytest.raises(ValueError, match=r"is the start of \d+ pair ids"):
        trace_pair(run, "pair-")
    with pytest.raises(ValueError, match="has no pair 'nothing'"):
        trace_pair(run, "nothing")


def test_a_run_that_stopped_after_its_pairs_can_be_traced(run_copy: Path) -> None:
    pair = trained_pair(run_copy)
    for stage in ("validate", "export", "dpo", "evaluate"):
        shutil.rmtree(run_copy / stage)

    history = trace_pair(RunFolder(run_copy), pair.id)

    assert history.pair.id == pair.id
    assert (history.verdict, history.trained, history.steps) == (None, False, ())
