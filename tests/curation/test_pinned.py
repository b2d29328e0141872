from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from curation.pinned import own_text, pinned_text

CLOCK = "{{ strftime_now('%d %b %Y') if not date_string is defined else date_string }}"


def render(template: str, *messages: dict[str, str]) -> str:
    (text,), _ = render_jinja_template([list(messages)], chat_template=template)
    return str(text)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


def test_a_template_without_a_clock_is_left_as_it_is() -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert pinned_text(template, date="2026-01-01") == template


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (CLOCK, "05 Mar 2026"),
        ("{{ date_string }}", "05 Mar 2026"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2026-03-05"),
        ("{{ strftime_now('%A, %-d %B %y, %H:%M') }}", "Thursday, 5 March 26, 00:00"),
        ("{% macro today() %}{{ strftime_now('%j') }}{% endmacro %}{{ today() }}", "064"),
        ("{% if strftime_now is defined %}{{ strftime_now('%b') }}{% endif %}", "Mar"),
    ],
)
def test_every_way_to_read_the_clock_gives_the_pinned_date(template: str, written: str) -> None:
    assert render(pinned_text(template, date="2026-03-05")) == written


@settings(deadline=None, max_examples=50)
@given(
    form=st.lists(
        st.sampled_from(["%d", "%-d", "%b", "%B", "%Y", "%y", "%m", "%a", "%A", " ", "/"])
    )
)
def test_a_pinned_date_is_written_as_python_writes_it(form: list[str]) -> None:
    template = f"{{{{ strftime_now('{''.join(form)}') }}}}"
    expected = datetime(2026, 1, 1).strftime("".join(form))
    assert render(pinned_text(template, date="2026-01-01")) == expected


@settings(deadline=None, max_examples=50)
@given(
    before=st.text(alphabet=" \n\tx", max_size=6),
    start=st.sampled_from(["{%", "{%-"]),
    end=st.sampled_from(["%}", "-%}"]),
    after=st.text(alphabet=" \n\tx", max_size=6),
)
def test_pinning_changes_no_white_space(before: str, start: str, end: str, after: str) -> None:
    template = f"{before}{start} set x = 1 {end}{after}{{{{ date_string and '' }}}}"
    pinned = pinned_text(template, date="2026-01-01", merged_roles=["system"])
    assert pinned != template
    assert render(pinned, user("hi")) == render(template, user("hi"))


def test_what_was_pinned_is_pinned_anew() -> None:
    once = pinned_text(CLOCK, date="2026-01-01", merged_roles=["system"])
    assert pinned_text(once, date="2026-01-01", merged_roles=["system"]) == once
    assert render(pinned_text(once, date="2027-02-03")) == "03 Feb 2027"
    assert own_text(once) == CLOCK
    assert own_text(CLOCK) == CLOCK


def test_system_texts_are_merged_into_the_first_user_turn() -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    pinned = pinned_text(template, date="2026-01-01", merged_roles=["system"])
    assert render(pinned, system("A"), system("B"), user("C")) == "<user>A\n\nB\n\nC"
    assert render(pinned, system(""), user("C")) == "<user>C"
    assert render(pinned, user("C"), system("A")) == "<user>C<system>A"
    assert render(pinned, system("A")) == "<system>A"


@pytest.mark.parametrize("date", ["soon", "2026-13-01", ""])
def test_a_date_that_is_none_is_told(date: str) -> None:
    with pytest.raises(ValueError, match=f"model.date is '{date}'; expected a date such as"):
        pinned_text("any template", date=date)


def test_transformers_itself_offers_no_way_to_pin_its_clock() -> None:
    """Why the date is written into the template's text: an argument is not let through."""
    (text,), _ = render_jinja_template(
        [[user("hi")]],
        chat_template="{{ strftime_now is string }}",
        strftime_now=lambda form: "never",
    )
    assert text == "True"
