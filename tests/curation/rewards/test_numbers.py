import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.rewards.numbers import Number, final_number, plain_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 72.", 72),
        ("First 3, then 5, so 8", 8),
        ("work 1 2 3\n#### 1,234", 1234),
        ("#### $18.50 in all", Fraction(37, 2)),
        (r"so \boxed{10} of 12", 10),
        (r"\boxed{1{,}200 \text{ km}}", 1200),
        (r"\boxed{\frac{3}{4}} or 2", Fraction(3, 4)),
        (r"first \boxed{1}, then \boxed{2}; 3", 2),
        ("The answer is 3 apples. That is more than 2.", 3),
        ("The answer is 5 + 3 = 8 eggs, not 9.", 8),
        ("The final answer is: **18** dollars for 3 days", 18),
        ("Answer:\n42\nBecause 3 is odd.", 42),
        ("La respuesta es 7. No 8.", 7),
        ("Die Antwort lautet: 9. Nicht 8.", 9),
        ("答案是18。因为3", 18),
        ("She has $70,000", 70_000),
        ("5\u202f000 km", 5000),
        ("1,234,567.89", Fraction(123456789, 100)),
        ("it is −5 degrees", -5),
        ("-$5", -5),
        ("$-5", -5),
        ("between 3-5", 5),
        ("x - 5", 5),
        ("- 7 apples", 7),
        ("-1 1/2", Fraction(-3, 2)),
        ("1 3/4 cups", Fraction(7, 4)),
        ("16/2=8", 8),
        (".5", Fraction(1, 2)),
        ("2.5e3", 2500),
        ("it is 5 m2", 5),
        ("全部で５０", 50),
        (r"The answer is $\frac12$.", Fraction(1, 2)),
        (r"it is $-\frac{3}{4}$", Fraction(-3, 4)),
        (r"it is $-1\frac{3}4$", Fraction(-7, 4)),
        (r"it is $3-\frac{1}{2}$", Fraction(1, 2)),
    ],
)
def test_the_final_number_is_read(text: str, value: Fraction | int) -> None:
    assert final_number(text) == Number(Fraction(value))


@pytest.mark.parametrize(
    "text", ["", "blue", "H2O", "on 3/4/2023", "1/0", "9" * 60, "9" * 10_000, r"\boxed{}"]
)
def test_a_text_without_a_number_has_no_final_number(text: str) -> None:
    assert final_number(text) is None


@pytest.mark.parametrize("text", ["25%", "25 %", "25 percent", r"25\%", "２５％"])
def test_a_percent_sign_is_kept(text: str) -> None:
    assert final_number(text) == Number(Fraction(25), percent=True)


def test_a_decimal_comma_is_read_where_it_is_declared() -> None:
    assert final_number("Es sind 1.234,5 Meter", decimal_mark=",") == Number(Fraction(2469, 2))
    assert final_number("It is 1,234.5 metres") == Number(Fraction(2469, 2))


@pytest.mark.parametrize("text", ["18", "18 dollars", "The total is 18.", "$18", "18°"])
def test_one_number_with_words_or_a_unit_is_a_plain_number(text: str) -> None:
    assert plain_number(text) == Number(Fraction(18))


@pytest.mark.parametrize("text", ["2x", "2x+1", "x=5", r"\sqrt{16}", "10^5", "3-5", "blue", "1, 2"])
def test_an_expression_is_no_plain_number(text: str) -> None:
    assert plain_number(text) is None


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_a_number_is_read_back_as_python_writes_it(number: int, decimals: int) -> None:
    scaled = Fraction(number, 10**decimals)
    text = f"{number / 10**decimals:,.{decimals}f}"
    assert final_number(f"That makes {text} in all.") == Number(scaled)


def test_a_hostile_text_takes_no_time() -> None:
    started = time.process_time()
    units = ("the", "1,", "answer is", "\\boxed{", " \n", "1 1/", "$-")
    for text in [unit * 5000 + "-5" for unit in units]:
        plain_number(text)
        final_number(text)
    assert time.process_time() - started < 2


@given(st.text(max_size=200))
def test_any_text_has_a_final_number_or_none(text: str) -> None:
    found = final_number(text)
    assert found is None or isinstance(found.value, Fraction)
