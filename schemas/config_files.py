"""Configs from YAML files: whatever is wrong with one in one sentence, with the nearest key."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.arrow import first_error

_TEXT_WANTED = {"string_type", "path_type"}
"""Pydantic's names for what is no text where text is expected."""

C = TypeVar("C", bound=BaseModel)


def load_config(path: Path, overrides: Sequence[str] = (), *, as_: type[C]) -> C:
    """The config in a YAML file with `key.sub=value` overrides applied.

    Raises:
        ValueError: the file is missing or broken, a key is unknown, a value does not fit; one
            sentence that names the key and, for a typo, the nearest key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"config '{path}' does not exist; `pairwright init` writes one") from None
    except IsADirectoryError:
        inside = next(iter(sorted(path.glob("*.yaml"))), None)
        such = f", such as '{inside}'" if inside else ""
        raise ValueError(f"config '{path}' is a folder; expected a YAML file{such}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"config '{path}' is not in UTF-8 (byte {error.start + 1}); save it in that encoding"
        ) from None
    try:
        data = yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(f"config '{path}' is not valid YAML: {_in_one_line(error)}") from error
    if not isinstance(data, dict):
        raise ValueError(f"config '{path}' holds no keys; expected a mapping such as `seed: 0`")
    for override in overrides:
        apply_override(data, override)
    return parse_config(data, as_=as_, where=f"config '{path}'")


class _Plain(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML's own reader would drop the first value unseen. A date
    without quotes is a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_config(data: Mapping[str, Any], *, as_: type[C], where: str) -> C:
    """The data as a config of that class; errors as in `load_config`."""
    try:
        return as_.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A misspelt key is also one that is missing.
        typos = [detail for detail in details if detail["type"] == "extra_forbidden"]
        detail = (typos or details)[0]
        keys = [str(part) for part in detail["loc"]]
        if detail["type"] == "extra_forbidden":
            message = unknown_key(keys[-1], _keys_at(as_, keys[:-1]))
            section = ".".join(keys[:-1])
            raise ValueError(f"{where}: {section + ': ' if section else ''}{message}") from None
        # What our own checks say names the value already.
        plain = detail["type"] != "value_error" and isinstance(detail["input"], str | int | float)
        found = f", found {detail['input']!r}" if plain else ""
        if plain and detail["type"] in _TEXT_WANTED:
            found += "; put it in quotes to have it taken as text"
        raise ValueError(f"{where}: {first_error(error)}{found}") from None


def unknown_key(key: str, known: Iterable[str]) -> str:
    """`unknown key 'betta'; did you mean 'beta'?`, or the known keys where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key '{key}'; {hint}"


def _in_one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{getattr(error, 'problem', None) or error}"


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set in the data what `key.sub=value` says.

    Raises:
        ValueError: it is not of that form, or goes through what has no keys.
    """
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise ValueError(f"override '{override}' is not of the form key=value")
    *parents, last = key.split(".")
    for parent in parents:
        below = data.setdefault(parent, {})
        if isinstance(below, list) or not isinstance(below, dict):
            raise ValueError(
                f"override '{override}': '{parent}' is no section that has keys of its own"
            )
        data = below
    try:
        data[last] = yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(f"override '{override}': {_in_one_line(error)}") from error


def _keys_at(section: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the section that a pydantic error location leads to."""
    for step in path:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        if step in fields:
            inner = _section_in(fields[step].annotation)
            section = section if inner is None else inner
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(arg) for arg in getattr(annotation, "__args__", ()))
    return next((section for section in found if section is not None), None)
