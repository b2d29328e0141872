import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from dpo.reward_accuracy import (
    LabelAgreement,
    ScoredPair,
    annotator_accuracy,
    ceiling,
    clustered,
    majority_accuracy,
    measure,
)


def pair(
    chosen: float | None,
    rejected: float | None = 0.0,
    *,
    prompt: str = "p",
    lengths: tuple[int, int] = (1, 1),
    p_chosen: float | None = None,
) -> ScoredPair:
    return ScoredPair(prompt, chosen, rejected, *lengths, p_chosen)


def test_a_tie_in_scores_is_half_right() -> None:
    found = measure([pair(1.0), pair(0.0), pair(-1.0), pair(2.0)])
    assert found.accuracy.share == 2.5 / 4
    assert found.ties == 1


def test_the_floor_prefers_the_longer_answer_on_the_same_pairs() -> None:
    found = measure(
        [
            pair(1.0, lengths=(5, 2)),
            pair(1.0, lengths=(2, 5)),
            pair(1.0, lengths=(3, 3)),
            pair(1.0, lengths=(9, 3)),
            pair(None, lengths=(1, 9)),
        ]
    )
    assert found.floor.share == 2.5 / 4
    assert found.floor.pairs == found.accuracy.pairs == 4
    assert found.abstained == 1


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 10), (60, 80), (10, 10)])
def test_with_one_pair_a_prompt_the_interval_is_wilsons(right: int, n: int) -> None:
    values = [1.0] * right + [0.0] * (n - right)
    found = clustered(values, [str(number) for number in range(n)])
    low, high = proportion_confint(right, n, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_pairs_that_repeat_within_a_prompt_count_once() -> None:
    # Both pairs of a prompt share its fate, so 40 pairs of 20 prompts tell what 20 pairs tell.
    fates = [1.0] * 14 + [0.0] * 6
    doubled = clustered(fates * 2, [str(number) for number in range(20)] * 2)
    low, high = proportion_confint(14, 20, method="wilson")
    assert (doubled.low, doubled.high) == pytest.approx((low, high), abs=1e-9)
    assert (doubled.pairs, doubled.prompts) == (40, 20)


def test_all_right_is_no_certainty() -> None:
    found = clustered([1.0] * 30, [str(number // 3) for number in range(30)])
    assert found.share == 1
    assert found.low == pytest.approx(proportion_confint(10, 10, method="wilson")[0])
    assert found.low is not None
    assert found.low < 0.75


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 4)), min_size=1))
def test_an_interval_holds_its_share_within_0_and_1_in_any_order(
    rows: list[tuple[float, int]],
) -> None:
    values, prompts = [value for value, _ in rows], [str(prompt) for _, prompt in rows]
    found = clustered(values, prompts)
    assert found.share is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share - 1e-12 <= found.high <= 1
    backwards = clustered(values[::-1], prompts[::-1])
    assert backwards.low == pytest.approx(found.low)


def test_no_pair_gives_no_figure() -> None:
    found = measure([])
    assert found.accuracy.share is found.brier is found.calibration_error is found.ceiling is None
    assert found.alarms() == []


def test_agreement_gives_the_accuracy_of_one_annotator() -> None:
    # Right with 0.9 each, two agree with 0.81 + 0.01.
    assert annotator_accuracy(0.82) == pytest.approx(0.9)
    assert annotator_accuracy(1.0) == 1.0
    assert annotator_accuracy(0.5) == 0.5
    assert annotator_accuracy(0.49) is None
    with pytest.raises(ValueError, match=r"agreement is 1\.2; expected a share"):
        annotator_accuracy(1.2)


def test_a_majority_is_right_more_often_than_one_vote() -> None:
    assert majority_accuracy(0.8, 1) == 0.8
    # 0.8^3 + 3 * 0.8^2 * 0.2
    assert majority_accuracy(0.8, 3) == pytest.approx(0.896)
    # Of two votes that do not tie, both are right (0.64) or both wrong (0.04).
    assert majority_accuracy(0.8, 2) == pytest.approx(0.64 / 0.68)
    assert majority_accuracy(0.5, 5) == pytest.approx(0.5)


def test_the_ceiling_fits_the_kind_of_the_label() -> None:
    of_one, of_three = ceiling(LabelAgreement(0.68)), ceiling(LabelAgreement(0.68, votes=3))
    assert of_one is not None
    assert of_three is not None
    assert (of_one.kind, of_one.accuracy) == ("vote", pytest.approx(0.8))
    assert (of_three.kind, of_three.accuracy) == ("majority", pytest.approx(0.896))
    assert "independently" in of_three.assumes
    assert ceiling(LabelAgreement(0.4, votes=3)) is None


def test_without_agreement_the_ceiling_is_what_the_posteriors_say() -> None:
    known = [pair(1.0, p_chosen=0.9), pair(1.0, p_chosen=0.7)]
    found = measure(known).ceiling
    assert found is not None
    assert (found.kind, found.accuracy) == ("posterior", pytest.approx(0.8))
    assert measure([*known, pair(1.0)]).ceiling is None
    given = measure(known, LabelAgreement(0.68)).ceiling
    assert given is not None
    assert given.kind == "vote"


def _accurate(right: int, wrong: int) -> list[ScoredPair]:
    scores = [1.0] * right + [-1.0] * wrong
    return [pair(score, prompt=str(number)) for number, score in enumerate(scores)]


def test_a_leak_is_cried_only_when_the_intervals_lower_end_passes_the_ceiling() -> None:
    labels = LabelAgreement(0.68)  # one vote: ceiling 0.8
    above = measure(_accurate(9, 1), labels)
    assert above.accuracy.share == 0.9
    assert not [alarm for alarm in above.alarms() if alarm.startswith("LEAK")]
    surely_above = measure(_accurate(90, 10), labels)
    (alarm,) = surely_above.alarms()
    assert alarm.startswith("LEAK: held-out accuracy is 90.0% of 100 pairs (95% interval 82.6%")
    assert "above the 80.0%" in alarm
    assert not measure(_accurate(90, 10)).alarms()


def test_a_model_no_better_than_length_is_said_to_be_at_the_floor() -> None:
    (alarm,) = measure(_accurate(11, 9)).alarms()
    assert alarm.startswith("AT_FLOOR: held-out accuracy is 55.0%")


def test_calibration_looks_from_the_answer_that_the_model_prefers() -> None:
    odds = math.log(0.83 / 0.17)
    found = measure([pair(odds), pair(odds), pair(odds), pair(-odds), pair(0.0), pair(9.0)])
    bins = {round(item.low, 2): item for item in found.calibration}
    assert set(bins) == {0.5, 0.8, 0.95}
    assert (bins[0.8].n, bins[0.8].predicted, bins[0.8].observed) == (
        4,
        pytest.approx(0.83),
        pytest.approx(0.75),
    )
    assert (bins[0.5].n, bins[0.5].observed) == (1, 0.5)
    assert bins[0.95].high == 1
    sure = 1 / (1 + math.exp(-9))
    assert found.calibration_error == pytest.approx((4 * 0.08 + 0 + (1 - sure)) / 6)
    squares = 3 * 0.17**2 + 0.83**2 + 0.25 + (1 - sure) ** 2
    assert found.brier == pytest.approx(squares / 6)


def test_calibration_weighs_a_label_by_its_posterior() -> None:
    odds = math.log(0.83 / 0.17)
    found = measure([pair(odds, p_chosen=0.8), pair(-odds, p_chosen=0.7)])
    (only,) = found.calibration
    assert only.observed == pytest.approx((0.8 + 0.3) / 2)
    expected = 0.8 * 0.17**2 + 0.2 * 0.83**2 + 0.7 * 0.83**2 + 0.3 * 0.17**2
    assert found.brier == pytest.approx(expected / 2)


def test_extreme_differences_are_no_overflow() -> None:
    found = measure([pair(1e4), pair(-1e4)])
    assert found.brier == pytest.approx(0.5)
    assert found.calibration[0].predicted == 1
