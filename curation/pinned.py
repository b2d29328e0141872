"""A chat template's text with what must not vary written into it.

The date, and a merge of the system text where the template refuses that role, become lines of
Jinja in front of the template. So whoever renders with the tokenizer (the trainer, a server, a
saved policy) sees the same text, without having to know about either.
"""

from collections.abc import Sequence
from datetime import datetime

_END = "{# end of the lines written by pairwright #}\n"

_DIRECTIVES = (*"aAbBcdDeFHIjmMpSTuUwWxXyYZ", "-d", "-m", "-H", "-I", "-M", "-S", "-j", "-y")

_MERGE = """\
{%- set merged = namespace(system=[], messages=[], done=false) -%}
{%- for message in messages -%}
{%- if message.role in ROLES and not merged.done -%}
{%- set merged.system = merged.system + [message.content or ''] -%}
{%- elif message.role == 'user' and merged.system and not merged.done -%}
{%- set text = (merged.system + [message.content or '']) | select | join('\\n\\n') -%}
{%- set merged.messages = merged.messages + [dict(message, content=text)] -%}
{%- set merged.done = true -%}
{%- else -%}
{%- set merged.messages = merged.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- if merged.done -%}{%- set messages = merged.messages -%}{%- endif -%}
"""


def own_text(template: str) -> str:
    """The template without the lines that `pinned_text` once wrote in front of it."""
    return template.rpartition(_END)[2]


def pinned_text(template: str, *, date: str, merged_roles: Sequence[str] = ()) -> str:
    """The template, always seeing that date, with the merged roles' text in the first user turn.

    A template that can do neither comes back as it is. What was pinned before is pinned anew.

    Raises:
        ValueError: the date is not a date such as 2026-01-01.
    """
    template, day = own_text(template), _day(date)
    lines = ""
    # Naming is a sound sign here, unlike for what a template can do: a template that does not name
    # the clock cannot read it, and one that names it without reading it is not changed by the pin.
    if "strftime_now" in template or "date_string" in template:
        lines += _clock(day)
    if merged_roles:
        lines += _MERGE.replace("ROLES", repr(list(merged_roles)))
    return lines + _END + template if lines else template


def _day(date: str) -> datetime:
    try:
        return datetime.fromisoformat(date)
    except ValueError:
        raise ValueError(f"model.date is '{date}'; expected a date such as 2026-01-01") from None


def _clock(day: datetime) -> str:
    replaced = "".join(
        f" | replace('%{directive}', '{day.strftime('%' + directive)}')"
        for directive in _DIRECTIVES
    )
    return (
        f"{{%- set date_string = '{day.strftime('%d %b %Y')}' -%}}\n"
        f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro -%}}\n"
    )
