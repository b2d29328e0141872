"""No tie, no contradiction and no circle passes for a preference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.validation.gate import Gate, GateResult, RawRow
from schemas.configs import ValidateConfig


def row(row_id: str, chosen: str, rejected: str, *, prompt: str = "p", **fields: object) -> RawRow:
    return RawRow(
        row_id=row_id,
        prompt=[{"role": "user", "content": prompt}],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        **fields,  # type: ignore[arg-type]
    )


def run(*rows: RawRow, **config: object) -> GateResult:
    gate = Gate(ValidateConfig.model_validate({"token_checks": False, **config}), seed=0)
    return gate.run(rows)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"margin": 0.0}, "TIE"),
        ({"p_chosen": 0.5}, "TIE"),
        ({"ratings": [3, 3]}, "TIE"),
        ({"margin": -0.5}, "REVERSED"),
        ({"p_chosen": 0.2}, "REVERSED"),
        ({"ratings": [1, 5]}, "REVERSED"),
        ({"ratings": [1, 5, 3]}, "RATING_COUNT_MISMATCH"),
        ({"ratings": [5, None]}, "BAD_NUMBER"),
        ({"ratings": [True, False]}, "BAD_NUMBER"),
        ({"margin": float("nan")}, "BAD_NUMBER"),
        ({"margin": float("inf")}, "BAD_NUMBER"),
        ({"margin": "much"}, "BAD_NUMBER"),
        ({"margin": 10**400}, "BAD_NUMBER"),
        ({"weight": 0.0}, "BAD_NUMBER"),
        ({"weight": float("nan")}, "BAD_NUMBER"),
        ({"p_chosen": 1.5}, "BAD_NUMBER"),
        ({"chosen_finish": "length"}, "TRUNCATED_CANDIDATE"),
        ({"rejected_finish": "length"}, "TRUNCATED_CANDIDATE"),
    ],
)
def test_a_row_that_is_no_preference_is_kept_out_and_the_next_goes_on(
    fields: dict[str, object], code: str
) -> None:
    result = run(row("line 1", "a", "b", **fields), row("line 2", "c", "d"))
    assert result.reasons == {code: 1}
    assert [pair.chosen.completion.text for pair in result.pairs] == ["c"]


def test_the_difference_of_the_ratings_is_the_margin() -> None:
    (pair,) = run(row("line 1", "a", "b", ratings=[4, 1.5])).pairs
    assert pair.margin == 2.5


def test_only_a_known_margin_can_be_below_the_least() -> None:
    rows = [row("1", "a", "b", margin=0.4), row("2", "c", "d", margin=0.5), row("3", "e", "f")]
    result = run(*rows, min_margin=0.5)
    assert result.reasons == {"BELOW_MARGIN": 1}
    assert [quarantined.row_id for quarantined in result.quarantined] == ["1"]


def test_contradicting_rows_are_both_kept_out_and_name_each_other() -> None:
    result = run(row("u1", "x", "y"), row("u2", "y", "x"), row("u3", "x", "y"))
    assert result.reasons == {"CONTRADICTION": 3}
    by_row = {quarantined.row_id: quarantined.message for quarantined in result.quarantined}
    assert "'u1'" in by_row["u2"]
    assert "'u3'" in by_row["u2"]
    assert "'u2'" in by_row["u1"]


def test_the_same_answers_to_another_prompt_contradict_nothing() -> None:
    result = run(row("1", "x", "y"), row("2", "y", "x", prompt="another"))
    assert result.counts["out"] == 2


def test_no_row_of_a_circle_passes_and_the_rows_beside_it_do() -> None:
    result = run(
        row("1", "A", "B"),
        row("2", "B", "C"),
        row("3", "C", "A"),
        row("4", "A", "D"),
        row("5", "A", "B", prompt="another"),
    )
    assert result.reasons == {"CYCLE": 3}
    assert [quarantined.row_id for quarantined in result.quarantined] == ["1", "2", "3"]
    assert "'1', '2', '3'" in result.quarantined[0].message
    assert result.counts["out"] == 2


def test_the_first_of_equal_rows_stays() -> None:
    result = run(row("1", "x", "y"), row("2", "x", "y"), row("3", "x", "z"))
    assert result.reasons == {"DUPLICATE_PAIR": 1}
    assert result.quarantined[0].row_id == "2"
    assert "'1'" in result.quarantined[0].message


EDGES = st.lists(st.tuples(st.sampled_from("ABCDE"), st.sampled_from("ABCDE")), max_size=12)


@given(EDGES)
@settings(deadline=None)
def test_what_passes_can_be_put_in_one_order(edges: list[tuple[str, str]]) -> None:
    rows = [row(str(at), chosen, rejected) for at, (chosen, rejected) in enumerate(edges)]
    result = run(*rows)
    assert result.counts["in"] == result.counts["out"] + result.counts["quarantined"] == len(edges)
    below: dict[str, set[str]] = {}
    for pair in result.pairs:
        below.setdefault(pair.chosen.completion.text, set()).add(pair.rejected.completion.text)
    while below:
        leaves = {name for name, worse in below.items() if not worse & below.keys()}
        assert leaves
        below = {name: worse for name, worse in below.items() if name not in leaves}


@given(EDGES.filter(lambda edges: all(one < other for one, other in edges)))
@settings(deadline=None)
def test_rows_that_follow_one_order_are_only_duplicates(edges: list[tuple[str, str]]) -> None:
    rows = [row(str(at), chosen, rejected) for at, (chosen, rejected) in enumerate(edges)]
    assert run(*rows).counts["out"] == len(set(edges))
