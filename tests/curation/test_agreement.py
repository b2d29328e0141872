"""Agreement figures beside independent packages, published figures and values by hand."""

import itertools
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from curation.agreement import (
    Agreement,
    agreement,
    agreement_of_file,
    agreement_of_judgements,
    label_agreement,
)
from curation.annotators import annotator_report
from curation.formats.vote_columns import VoteColumns
from curation.formats.votes import LabelVote, read_votes
from curation.resampling import Figure
from curation.votes import Side, Vote
from schemas.records import Annotator, Judgement

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")

CODES = {"left": 0, "tie": 1, "right": 2}


def votes_of_rows(rows: Sequence[str]) -> list[Vote]:
    """One row an annotator, one letter an item: l, t, r or a dot for no answer."""
    words: dict[str, Any] = {"l": "left", "t": "tie", "r": "right"}
    return [
        Vote(f"i{item}", "x", "y", f"annotator {number}", words[letter])
        for number, row in enumerate(rows)
        for item, letter in enumerate(row)
        if letter != "."
    ]


def value(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


# ---- by hand


def test_figures_of_four_items_are_those_worked_out_by_hand() -> None:
    # Items: ll, lt, rr, lr. Of four pairs of answers two agree, and one more is half a tie.
    found = agreement(votes_of_rows(["llrl", "ltrr"]))
    assert found.percent.value == 2 / 4
    assert found.tie_discounted.value == 2.5 / 4
    # First: 3 l, 1 r; second: 1 l, 1 t, 2 r. By chance (3 * 1 + 1 * 2) / 16.
    assert found.pairs[0].cohen.value == pytest.approx((1 / 2 - 5 / 16) / (1 - 5 / 16))
    # All: 4 l, 1 t, 3 r of 8. By chance (16 + 1 + 9) / 64.
    assert found.fleiss.value == pytest.approx((1 / 2 - 26 / 64) / (1 - 26 / 64))
    # Two of four units disagree: 1 - 7 * 4 / (64 - 26).
    assert found.alpha_nominal.value == pytest.approx(1 - 7 * 4 / 38)
    # Mid-ranks 2, 4.5, 6.5: squared distances l-t 6.25, l-r 20.25, t-r 4.
    observed = 2 * 6.25 + 2 * 20.25
    expected = 2 * (4 * 1 * 6.25 + 4 * 3 * 20.25 + 1 * 3 * 4)
    assert found.alpha_ordinal.value == pytest.approx(1 - 7 * observed / expected)


def test_a_tie_on_one_side_alone_is_half_an_agreement() -> None:
    # Items lt, tt, tr, ll and lr: 1/2 + 1 + 1/2 + 1 + 0 of 5.
    found = agreement(votes_of_rows(["lttll", "ttrlr"]))
    assert found.tie_discounted.value == 3 / 5
    assert found.pairs[0].tie_discounted.value == 3 / 5
    assert found.pairs[0].percent.value == 2 / 5


def test_everybody_agreeing_gives_one_everywhere() -> None:
    found = agreement(votes_of_rows(["lrt", "lrt", "lrt"]))
    figures = (found.percent, found.fleiss, found.alpha_nominal, found.alpha_ordinal)
    assert all(figure.value == pytest.approx(1) for figure in figures)
    assert [pair.cohen.value for pair in found.pairs] == [pytest.approx(1)] * 3


def test_an_annotator_counts_once_an_item_with_the_last_answer() -> None:
    votes = [*votes_of_rows(["lr", "lr"]), Vote("i0", "x", "y", "annotator 0", "right")]
    found = agreement(votes)
    assert (found.answers, found.repeats, found.percent.value) == (4, 1, 0.5)


def test_votes_of_nobody_knows_whom_are_all_of_different_people() -> None:
    votes = [Vote("q", "x", "y", "somebody", winner) for winner in ("left", "left", "right")]
    found = agreement(votes, anonymous=True)
    assert (found.annotators, found.answers, found.repeats, found.pairs) == (None, 3, 0, ())
    assert found.percent.value == 1 / 3


# ---- what is not defined


def reason(figure: Figure) -> str:
    assert figure.value is None
    assert figure.low is None
    assert figure.high is None
    return figure.why or ""


def test_one_annotator_has_no_agreement_and_the_report_says_why() -> None:
    found = agreement(votes_of_rows(["lrt"]))
    assert "two annotators" in reason(found.percent)
    assert found.warnings == ("there is one annotator, so agreement cannot be known",)


def test_no_shared_item_has_no_agreement() -> None:
    found = agreement(votes_of_rows(["lr..", "..lr"]))
    assert "two annotators" in reason(found.alpha_nominal)
    assert found.pairs == ()
    assert "no item" in found.warnings[0]


def test_one_answer_only_leaves_agreement_beyond_chance_open() -> None:
    found = agreement(votes_of_rows(["ll", "ll"]))
    assert found.percent.value == 1
    for figure in (found.fleiss, found.alpha_nominal, found.alpha_ordinal):
        assert reason(figure) == "every answer is 'left'"
    assert "always" in reason(found.pairs[0].cohen)
    assert "cannot be known" in found.warnings[0]


def test_no_votes_are_no_error() -> None:
    found = agreement([])
    assert (found.items, found.answers, found.annotators) == (0, 0, 0)
    assert reason(found.percent)


def test_few_shared_items_have_a_kappa_but_no_interval() -> None:
    pair = agreement(votes_of_rows(["llrl", "ltrr"])).pairs[0]
    assert pair.cohen.value is not None
    assert pair.cohen.low is None
    assert pair.cohen.why == "4 shared items are too few for an interval"


# ---- warnings


def test_one_dominating_answer_is_warned_of() -> None:
    found = agreement(votes_of_rows(["l" * 45 + "r" * 5, "l" * 40 + "r" * 5 + "l" * 5]))
    assert any(
        "high agreement" in warning and "one answer dominates ('left' is 90%" in warning
        for warning in found.warnings
    )


def test_annotators_who_share_few_items_are_named() -> None:
    found = agreement(votes_of_rows(["lrt" + "." * 9, "lrt" + "lrtlrtlrt", "..." + "lrtlrtlrt"]))
    assert "annotators annotator 0 and annotator 1 share only 3 items" in found.warnings


def test_chance_agreement_is_said_to_be_chance() -> None:
    rng = random.Random(3)
    rows = ["".join(rng.choice("ltr") for _ in range(60)) for _ in range(2)]
    assert any(
        "cannot be told from chance" in text for text in agreement(votes_of_rows(rows)).warnings
    )


def test_a_side_that_wins_by_its_place_is_warned_of() -> None:
    sides: list[Side] = ["left", "right"]
    votes = [
        Vote(f"i{item}", "x", "y", name, sides[item % 2], shown_first=sides[item % 2])
        for item in range(20)
        for name in ("a", "b")
    ]
    (warning,) = agreement(votes).warnings
    assert "the answer shown first wins 100% of 40" in warning


# ---- properties

answers = st.lists(st.text("ltr.", min_size=6, max_size=6), min_size=2, max_size=5)


@given(answers, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_votes_changes_no_value(rows: list[str], rng: random.Random) -> None:
    votes = votes_of_rows(rows)
    shuffled = votes.copy()
    rng.shuffle(shuffled)
    for one, other in zip(figures(agreement(votes)), figures(agreement(shuffled)), strict=True):
        assert one == pytest.approx(other, nan_ok=True)


@given(answers)
@settings(max_examples=40, deadline=None)
def test_turning_all_pairs_round_changes_no_value(rows: list[str]) -> None:
    mirrored = [row.translate(str.maketrans("lr", "rl")) for row in rows]
    found, turned = (figures(agreement(votes_of_rows(each))) for each in (rows, mirrored))
    assert found == pytest.approx(turned, nan_ok=True)


@given(answers)
@settings(max_examples=40, deadline=None)
def test_no_figure_is_ever_nan(rows: list[str]) -> None:
    found = agreement(votes_of_rows(rows))
    assert "NaN" not in found.model_dump_json()
    for figure in (found.percent, found.fleiss, found.alpha_nominal, found.alpha_ordinal):
        assert (figure.value is None) <= (figure.why is not None)
        if figure.low is not None and figure.high is not None:
            assert figure.low <= figure.high


@given(answers)
@settings(max_examples=40, deadline=None)
def test_alpha_equals_an_independent_package(rows: list[str]) -> None:
    table = np.array([["ltr".index(c) if c != "." else np.nan for c in row] for row in rows])
    found = agreement(votes_of_rows(rows))
    if found.alpha_nominal.value is None:
        return
    for level, figure in (("nominal", found.alpha_nominal), ("ordinal", found.alpha_ordinal)):
        other = krippendorff.alpha(
            reliability_data=table, level_of_measurement=level, value_domain=[0, 1, 2]
        )
        assert value(figure) == pytest.approx(other)


def figures(found: Agreement) -> list[float]:
    all_of_them = [found.percent, found.tie_discounted, found.fleiss]
    all_of_them += [found.alpha_nominal, found.alpha_ordinal]
    for pair in found.pairs:
        all_of_them += [pair.percent, pair.cohen]
    return [math.nan if figure.value is None else figure.value for figure in all_of_them]


def test_an_interval_is_the_same_each_time_and_covers_the_truth() -> None:
    rng = random.Random(0)
    covered = 0
    for trial in range(40):
        # Both are right with 0.8 on a coin's side: they agree with 0.8^2 + 0.2^2 = 0.68.
        truth = [rng.choice("lr") for _ in range(80)]
        other = {"l": "r", "r": "l"}
        rows = [
            "".join(side if rng.random() < 0.8 else other[side] for side in truth) for _ in range(2)
        ]
        percent = agreement(votes_of_rows(rows), seed=trial).percent
        assert percent == agreement(votes_of_rows(rows), seed=trial).percent
        assert percent.low is not None
        assert percent.high is not None
        covered += percent.low <= 0.68 <= percent.high
    assert covered >= 34


def test_the_interval_of_percent_agreement_is_that_of_drawing_items_again() -> None:
    # 70 of 100 items agree, so a resample holds a binomial number of them.
    found = agreement(votes_of_rows(["l" * 100, "l" * 70 + "r" * 30]))
    expected = [count / 100 for count in binom.ppf([0.025, 0.975], 100, 0.7)]
    for percent in (found.percent, found.pairs[0].percent):
        assert [percent.low, percent.high] == pytest.approx(expected, abs=0.011)


def test_unequal_numbers_of_raters_are_taken_item_by_item_in_fleiss() -> None:
    # Items: lll, lr, tt. Alike 1, 0, 1; given 4 l, 1 r, 2 t of 7: by chance (16 + 1 + 4) / 49.
    found = agreement(votes_of_rows(["llt", "lrt", "l.."]))
    assert found.fleiss.value == pytest.approx((2 / 3 - 21 / 49) / (1 - 21 / 49))


def test_labels_without_an_order_have_no_ordinal_alpha_and_given_one_they_have() -> None:
    labels = [LabelVote(str(i), name, word) for i, word in enumerate("YNU") for name in "ab"]
    assert label_agreement(labels).alpha_ordinal.why == "the labels have no order"
    assert label_agreement(labels, order="NUY").alpha_ordinal.value == pytest.approx(1)
    with pytest.raises(ValueError, match="label 'U' is not in the order N, Y"):
        label_agreement(labels, order="NY")


# ---- judgements


def judged(name: str, prompt: str, ranks: tuple[int, int], **fields: Any) -> Judgement:
    return Judgement(
        prompt_id=prompt,
        annotator=Annotator(kind="human", name=name),
        candidates=("t-1", "t-2"),
        ranks=ranks,
        **fields,
    )


def test_questions_are_kept_apart_and_gold_and_drafts_left_out() -> None:
    judgements = [
        judged("ann", "p-1", (1, 2)),
        judged("ben", "p-1", (1, 2)),
        judged("ann", "p-1", (2, 1), question="style"),
        judged("ben", "p-1", (1, 2), question="style"),
        judged("ann", "p-2", (1, 2), purpose="gold"),
        judged("ben", "p-2", (1, 2), purpose="gold"),
        judged("cid", "p-1", (2, 1), status="draft"),
        judged("dan", "p-1", (2, 1)),
    ]
    found = agreement_of_judgements(judgements, excluded=["dan"])
    assert list(found) == ["overall", "style"]
    assert (found["overall"].answers, found["overall"].percent.value) == (2, 1)
    assert (found["style"].answers, found["style"].percent.value) == (2, 0)


# ---- real votes


@needs_data
def test_pandalm_kappas_and_label_counts_are_the_published_ones() -> None:
    found, rejected = agreement_of_file(DATA / "pandalm_human3.jsonl")
    kappas = {(p.first, p.second): round(value(p.cohen), 3) for p in found.agreement.pairs}
    assert kappas == {
        ("annotator1", "annotator2"): 0.852,
        ("annotator1", "annotator3"): 0.879,
        ("annotator2", "annotator3"): 0.862,
    }
    assert found.agreement.labels == {"left": 1255, "tie": 326, "right": 1416}
    assert rejected == []
    rows = rows_of("pandalm_human3.jsonl")
    for pair in found.agreement.pairs:
        columns = [[row[name] for row in rows] for name in (pair.first, pair.second)]
        assert pair.cohen.value == pytest.approx(cohen_kappa_score(*columns))
        table = pd.crosstab(pd.Series(columns[0]), pd.Series(columns[1])).to_numpy()
        assert pair.cohen.value == pytest.approx(cohens_kappa(table).kappa)
        assert pair.cohen.low is not None
        assert 0.8 < pair.cohen.low < value(pair.cohen)
    counts = [
        [[row[f"annotator{k}"] for k in (1, 2, 3)].count(c) for c in range(3)] for row in rows
    ]
    assert found.agreement.fleiss.value == pytest.approx(statsmodels_fleiss(np.array(counts)))


@needs_data
def test_pandalm_annotators_gave_the_counts_of_the_paper() -> None:
    file = read_votes(DATA / "pandalm_human3.jsonl")
    given = [
        [
            sum(v.winner == winner and v.annotator == f"annotator{number}" for v in file.votes)
            for winner in ("left", "right", "tie")
        ]
        for number in (1, 2, 3)
    ]
    assert given == [[427, 475, 97], [417, 466, 116], [411, 475, 113]]


@needs_data
@pytest.mark.parametrize("name", ["ukpconvarg1_votes", "llmfao_votes"])
def test_alpha_of_votes_equals_independent_packages(name: str) -> None:
    import evalica

    file = read_votes(DATA / f"{name}.jsonl")
    found = agreement(file.votes)
    table = pd.DataFrame(
        [(vote.annotator, "|".join(vote.pair), CODES[vote.winner]) for vote in file.votes],
        columns=["annotator", "item", "code"],
    ).pivot(index="annotator", columns="item", values="code")
    for level, figure in (("nominal", found.alpha_nominal), ("ordinal", found.alpha_ordinal)):
        other = krippendorff.alpha(reliability_data=table.to_numpy(), level_of_measurement=level)
        assert figure.value == pytest.approx(other)
        assert figure.value == pytest.approx(evalica.alpha(table, level).alpha)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < value(figure) < figure.high


@needs_data
def test_alpha_of_dices_and_of_two_xstest_annotators_equals_an_independent_package() -> None:
    dices = read_votes(DATA / "dices990.jsonl")
    assert dices.anonymous
    found = label_agreement(dices.labels, anonymous=True, order="NUY")
    counts = np.array([[row["votes"].count(c) for c in "NUY"] for row in rows_of("dices990.jsonl")])
    assert found.answers == counts.sum() == 72103
    for level, figure in (("nominal", found.alpha_nominal), ("ordinal", found.alpha_ordinal)):
        other = krippendorff.alpha(
            value_counts=counts, level_of_measurement=level, value_domain=[0, 1, 2]
        )
        assert figure.value == pytest.approx(other)
    assert found.pairs == ()

    xstest = label_agreement(read_votes(DATA / "xstest_two_annotators.jsonl").labels)
    rows = rows_of("xstest_two_annotators.jsonl")
    columns = [[row[name] for row in rows] for name in ("annotator_1", "annotator_2")]
    codes = [
        [sorted(set(itertools.chain(*columns))).index(x) for x in column] for column in columns
    ]
    other = krippendorff.alpha(reliability_data=codes, level_of_measurement="nominal")
    assert xstest.alpha_nominal.value == pytest.approx(other)
    assert xstest.pairs[0].cohen.value == pytest.approx(cohen_kappa_score(*columns))
    assert xstest.items == 900


@needs_data
def test_five_thousand_votes_take_less_than_five_seconds() -> None:
    began = time.process_time()
    found, _ = agreement_of_file(DATA / "llmfao_votes.jsonl")
    assert found.agreement.answers == 4866
    assert time.process_time() - began < 5


@needs_data
def test_everything_said_about_a_file_is_plain_json() -> None:
    found, _ = agreement_of_file(DATA / "food_pairwise.jsonl")
    plain = json.loads(found.model_dump_json())
    assert plain["rejected"] == {"MISSING_VALUE": 35}
    assert plain["agreement"]["annotators"] is None
    assert plain["agreement"]["answers"] == 30
    with pytest.raises(ValueError, match="an order is for labels"):
        agreement_of_file(DATA / "food_pairwise.jsonl", VoteColumns(), order=["a"])


def test_one_answer_on_shared_items_alone_is_not_said_of_all() -> None:
    rows = [("x", "ann", "1"), ("y", "ann", "2"), ("y", "ben", "2"), ("z", "ben", "1")]
    found = label_agreement([LabelVote(*row) for row in rows])
    assert found.labels == {"1": 2, "2": 2}
    (sentence,) = [one for one in found.warnings if "habit" in one]
    assert sentence.startswith("on the items that two or more answered, every answer is '2';")


def test_measurements_are_no_labels() -> None:
    measured = [LabelVote(f"q{n}", who, f"{n}.{who}") for n in range(300) for who in "12"]
    with pytest.raises(ValueError, match="600 different labels; expected at most 500"):
        label_agreement(measured)


def test_answers_in_sight_of_a_ranking_count_where_the_run_says_so() -> None:
    seen = [judged(name, "p-1", (1, 2), mode="assisted") for name in ("ann", "ben")]
    assert agreement_of_judgements(seen)["overall"].compared == 0
    assert agreement_of_judgements(seen, assisted=True)["overall"].compared == 1
    assert annotator_report(seen) == []
    assert [row.annotator for row in annotator_report(seen, assisted=True)] == ["ann", "ben"]


def test_labels_that_differ_in_case_alone_are_warned_of() -> None:
    rows = [("x", "ann", "Yes"), ("x", "ben", "yes"), ("y", "ann", "No")]
    found = label_agreement([LabelVote(*row) for row in rows])
    assert found.warnings[-1].startswith("the labels 'Yes' and 'yes' differ in case alone")
    assert len([one for one in found.warnings if "case" in one]) == 1
