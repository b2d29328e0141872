"""Every row comes out once: as a pair, or in quarantine under the first check it failed."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.formats.messages import normalise_messages
from curation.pairs import AllPairs, propose_pairs
from curation.validation.gate import (
    Gate,
    Quarantined,
    RawRow,
    rows_from_file,
    rows_from_proposals,
)
from schemas.arrow import from_table, to_table
from schemas.configs import ValidateConfig
from schemas.records import Candidate, Completion, Message, Origin, Prompt, Ranking

DATA = Path(__file__).parents[4] / "shared" / "data"
NO_TOKENS = ValidateConfig(token_checks=False)


def row(row_id: str, prompt: str, chosen: str, rejected: str, **fields: object) -> RawRow:
    return RawRow(
        row_id=row_id,
        prompt=[{"role": "user", "content": prompt}],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        **fields,  # type: ignore[arg-type]
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["p", "P ", "q", "\ud83c"]),
        st.sampled_from(["a", "b", "c", "", "\u200b"]),
        st.sampled_from(["a", "b", "c", " a"]),
        st.sampled_from([None, 0.0, 1.0, -1.0, float("nan")]),
    ),
    max_size=12,
)


@given(ROWS)
@settings(deadline=None)
def test_every_row_comes_out_once_and_in_order(
    items: list[tuple[str, str, str, float | None]],
) -> None:
    rows = [
        row(f"{at:02}", prompt, chosen, rejected, margin=margin)
        for at, (prompt, chosen, rejected, margin) in enumerate(items)
    ]
    result = Gate(NO_TOKENS, seed=0).run(iter(rows))
    counts = result.counts
    assert counts["in"] == len(rows) == counts["out"] + counts["quarantined"]
    assert counts["out"] == len(result.pairs) == counts["train"] + counts["test"]
    assert result.reasons == Counter(one.code for one in result.quarantined)
    kept_out = [one.row_id for one in result.quarantined]
    assert kept_out == sorted(set(kept_out))
    passed = [one for one in rows if one.row_id not in kept_out]
    assert [pair.chosen.completion.text for pair in result.pairs] == [
        one.chosen[0]["content"] for one in passed
    ]
    stored = from_table(to_table(result.quarantined, Quarantined), Quarantined)
    assert stored == result.quarantined


def test_a_row_gets_the_first_code_in_the_declared_order() -> None:
    both = row("1", "q", "", "x", margin=0.0, chosen_finish="length")
    assert Gate(NO_TOKENS, seed=0).run([both]).reasons == {"EMPTY_COMPLETION": 1}


def test_quarantine_keeps_the_row_as_it_was_read() -> None:
    (one,) = Gate(NO_TOKENS, seed=0).run([row("7", "q", "a", "a", margin=float("nan"))]).quarantined
    assert one.row["prompt"] == [{"role": "user", "content": "q"}]
    assert one.row["margin"] == "nan"


def test_the_gate_fails_over_the_allowed_share_only() -> None:
    rows = [row("1", "q", "a", "b"), row("2", "q", "a", "a")]
    half = ValidateConfig(token_checks=False, max_quarantined=0.5)
    less = ValidateConfig(token_checks=False, max_quarantined=0.49)
    assert not Gate(half, seed=0).run(rows).failed
    assert Gate(less, seed=0).run(rows).failed
    assert not Gate(less, seed=0).run([]).failed


def test_a_proposal_keeps_its_id_and_its_candidates() -> None:
    prompt = Prompt(messages=(Message(role="user", content="q"),))
    candidates = [
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(text, finish_reason=finish),
            origin=Origin(generator="transformers"),
        )
        for text, finish in (("a", "stop"), ("b", "stop"), ("cut off", "length"))
    ]
    ranking = Ranking(
        prompt_id=prompt.id,
        candidates=tuple(candidate.text_id for candidate in candidates),
        ranks=(1, 2, 3),
        scores=(3.0, 2.0, 1.0),
        method="score",
    )
    (given_pairs,) = propose_pairs([(prompt, candidates, ranking)], AllPairs(), seed=0)
    result = Gate(NO_TOKENS, seed=0).run(rows_from_proposals(given_pairs.proposals))
    assert result.reasons == {"TRUNCATED_CANDIDATE": 2}
    (pair,) = result.pairs
    assert pair.id in {proposal.id for proposal in given_pairs.proposals}
    assert (pair.chosen, pair.rejected) == (candidates[0], candidates[1])
    kept_out = result.quarantined[0]
    assert kept_out.row["rejected_id"] == candidates[2].id
    assert kept_out.row_id in {proposal.id for proposal in given_pairs.proposals}


@pytest.mark.skipif(
    not (DATA / "hh_harmless.jsonl").exists(),
    reason="the real data is not beside the project",
)
def test_real_dialogues_add_up(tmp_path: Path) -> None:
    """Human preferences over dialogues, split into turns as their format writes them."""
    path = tmp_path / "dialogues.jsonl"
    with (DATA / "hh_harmless.jsonl").open(encoding="utf-8") as lines, path.open("w") as out:
        for line in lines:
            item = json.loads(line)
            out.write(json.dumps({side: _turns(item[side]) for side in ("chosen", "rejected")}))
            out.write("\n")
    result = Gate(NO_TOKENS, seed=0).run(rows_from_file(path))
    counts = result.counts
    assert counts["in"] == 650 == counts["out"] + counts["quarantined"]
    assert counts["out"] > 600
    assert all(pair.prompt.messages[-1].role == "user" for pair in result.pairs)


def _turns(dialogue: str) -> list[dict[str, object]]:
    names = {"Human": "human", "Assistant": "gpt"}
    turns = []
    for part in dialogue.split("\n\n"):
        name, colon, said = part.partition(":")
        if colon and name in names:
            turns.append({"from": names[name], "value": said.strip()})
        elif turns:
            turns[-1]["value"] += "\n\n" + part
    return normalise_messages(turns)


def test_answers_of_a_file_that_begin_with_the_whole_prompt_are_told_and_kept(
    tmp_path: Path,
) -> None:
    asked = "Human: what is new?\n\nAssistant:"
    rows = [
        {"prompt": asked, "chosen": f"{asked} Little.", "rejected": f"{asked} Go away."},
        {"prompt": asked + " ", "chosen": f"{asked} Little.", "rejected": "Go away."},
        {"prompt": "Hello", "chosen": "Hello there.", "rejected": "Hello you."},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = Gate(NO_TOKENS, seed=0).run(rows_from_file(file))
    assert len(result.pairs) == 3
    (told,) = [line for line in result.warnings if line.startswith("PROMPT_REPEATED")]
    assert "in 1 rows" in told
    assert "'line 1' first" in told
