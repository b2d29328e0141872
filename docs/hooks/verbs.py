"""The command line as Markdown, read from the Typer app itself."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer

from pairwright.cli import app

_EVERYWHERE = ("debug", "help")
"""Options that are told once, at the head of the page."""


def verbs() -> str:
    """A section a verb: what it does, how it is called, its arguments and options."""
    return "\n\n".join(_sections(typer.main.get_command(app), "pairwright"))


def _sections(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for verb, child in children.items():
        if getattr(child, "commands", None):
            yield f"## {name} {verb}\n\n{_help(child)}"
            for sub, grandchild in child.commands.items():
                yield _section(grandchild, f"{name} {verb} {sub}", level=3)
        else:
            yield _section(child, f"{name} {verb}", level=2)


def _section(command: Any, name: str, level: int) -> str:
    shown = [one for one in command.params if one.name not in _EVERYWHERE or _is_special(one)]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option"]
    usage = " ".join([name, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])])
    rows = [row for row in map(_argument_row, arguments) if row is not None]
    rows.extend(map(_option_row, options))
    parts = [f"{'#' * level} {name}", _help(command), f"```text\n{usage}\n```"]
    if rows:
        parts.append("\n".join(["| argument or option | what it does |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _is_special(option: Any) -> bool:
    """Whether --debug does more here than to show where an error comes from."""
    return option.name == "debug" and not option.help.startswith("Show where")


def _help(command: Any) -> str:
    return " ".join((command.help or "").split())


def _usage(argument: Any) -> str:
    metavar = str(argument.metavar or argument.name.upper())
    return metavar if argument.required or metavar.startswith("[") else f"[{metavar}]"


def _argument_row(argument: Any) -> str | None:
    help_text = getattr(argument, "help", None)
    return f"| `{_usage(argument)}` | {_cell(help_text)} |" if help_text else None


def _option_row(option: Any) -> str:
    metavar = "" if option.is_flag else f" {_metavar(option)}".replace("|", "\\|")
    text = option.help or ""
    if not option.is_flag and option.default not in (None, (), []):
        text += f" Default: {option.default}."
    if option.required:
        text += " Required."
    return f"| `{', '.join(option.opts)}{metavar}` | {_cell(text)} |"


def _metavar(option: Any) -> str:
    taken = option.type_descriptor.annotation
    if get_origin(taken) is Literal:
        return "|".join(map(str, get_args(taken)))
    return str(option.metavar or taken.__name__.upper())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
