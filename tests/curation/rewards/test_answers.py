import json
import threading
from pathlib import Path
from typing import Any

import pytest

from curation.rewards.answers import ExactAnswer, NumericAnswer
from schemas.records import Completion, Message, Prompt

DATA = Path(__file__).parents[4] / "shared" / "data"


def prompt(answer: Any) -> Prompt:
    return Prompt(messages=(Message(role="user", content="How many?"),), answer=answer)


def exact(reference: Any, text: str) -> float | None:
    (score,) = ExactAnswer()([prompt(reference)], [Completion.from_text(text)])
    return score


def numeric(reference: Any, text: str, **options: Any) -> float | None:
    (score,) = NumericAnswer(**options)([prompt(reference)], [Completion.from_text(text)])
    return score


def rows(name: str) -> list[dict[str, Any]]:
    file = DATA / name
    if not file.exists():
        pytest.skip(f"shared/data/{name} is not beside the project")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("text", ["Paris", " paris. ", "“Paris”", "PARIS\n", '"Paris."'])
def test_an_exact_answer_ignores_case_space_quotes_and_a_full_stop(text: str) -> None:
    assert exact("Paris", text) == 1.0


@pytest.mark.parametrize("text", ["", "London", "It is Paris", "."])
def test_another_answer_is_not_exact(text: str) -> None:
    assert exact("Paris", text) == 0.0


def test_one_of_several_references_is_enough() -> None:
    assert exact(["colour", "color"], "Color.") == 1.0
    assert exact(42, "42") == 1.0


def test_a_prompt_without_a_reference_abstains() -> None:
    assert exact(None, "Paris") is None
    assert numeric(None, "7") is None


@pytest.mark.parametrize("reference", [{"a": 1}, [], [None], True])
def test_a_reference_that_is_no_answer_is_refused(reference: Any) -> None:
    with pytest.raises(ValueError, match="expected a text, a number or a list"):
        ExactAnswer().check(prompt(reference))


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("72", "So there are 72."),
        (72, "72.0 apples"),
        (0.1, "1/10"),
        ("2,125", "2125"),
        ("Half is 36.\n#### 72", "The answer is 72"),
        (r"\boxed{72}", "72"),
        ("18 dollars", "$18.00"),
        ("-5", "−5"),
        (r"\frac{3}{4}", "0.75"),
        ("25%", "25%"),
        ("25", "25%"),
        ("0.25", "25%"),
        ("25%", "0.25"),
        ("4", r"\boxed{\sqrt{16}}"),
        ("5cm", "It is 5 cm."),
        ("2x+1", r"so it is $1+2x$"),
        (r"\frac{\sqrt{3}}{2}", r"\boxed{\sqrt{3}/2}"),
    ],
)
def test_a_right_number_scores_one(reference: Any, text: str) -> None:
    assert numeric(reference, text) == 1.0


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("72", ""),
        ("72", "I do not know."),
        ("72", "72 at first, but 71 in the end"),
        ("25", "0.25"),
        ("25%", "2500%"),
        ("5", "-5"),
        ("4", r"\boxed{4x}"),
        ("2x+1", "$2x+2$"),
    ],
)
def test_a_wrong_or_missing_number_scores_zero(reference: Any, text: str) -> None:
    assert numeric(reference, text) == 0.0


@pytest.mark.parametrize("reference", ["blue", "", True, ["7"], {"a": 7}])
def test_a_reference_without_a_number_is_refused_before_anything_is_sampled(reference: Any) -> None:
    with pytest.raises(ValueError, match="holds no number"):
        NumericAnswer().check(prompt(reference))


def test_a_tolerance_is_a_share_of_the_reference() -> None:
    assert numeric("200", "201", tolerance=0.005) == 1.0
    assert numeric("200", "202", tolerance=0.005) == 0.0
    assert numeric("200", "200.0001") == 0.0


def test_a_decimal_comma_is_read_in_the_answer_not_in_the_reference() -> None:
    assert numeric("1234.5", "Es sind 1.234,5 Meter.", decimal_mark=",") == 1.0
    assert numeric("1234.5", r"\boxed{1.234,5}", decimal_mark=",") == 1.0


def test_an_expression_is_not_compared_without_a_time_limit() -> None:
    failed: list[RuntimeError] = []

    def compare() -> None:
        try:
            numeric("2x+1", "$2x+1$")
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=compare)
    thread.start()
    thread.join()
    assert "main thread" in str(failed[0])


def test_verdicts_on_gsm8k_solutions_equal_the_published_ones() -> None:
    reward = NumericAnswer()
    models = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    for row in rows("gsm8k_model_solutions.jsonl"):
        asked = prompt(row["ground_truth"].rpartition("A:")[2].strip())
        completions = [Completion.from_text(row[model]["solution"]) for model in models]
        expected = [float(row[model]["is_correct"]) for model in models]
        assert reward([asked] * 4, completions) == expected, row["question"]


def test_every_gsm8k_reference_answers_itself() -> None:
    reward = NumericAnswer()
    for row in rows("gsm8k_test.jsonl"):
        final = row["answer"].rpartition("####")[2].strip()
        answers = [f"The answer is {final}.", f"{row['answer']}", f"{final} dollars", f"{final}1"]
        completions = [Completion.from_text(text) for text in answers]
        assert reward([prompt(row["answer"])] * 4, completions) == [1.0, 1.0, 1.0, 0.0]


def test_a_whole_number_out_of_a_table_with_gaps_is_written_without_its_point() -> None:
    assert exact(3.0, "3") == 1.0
    assert exact([2.5, 4.0], "4.") == 1.0
    assert exact(2.5, "2") == 0.0
