"""Every key of the config as Markdown, read from the config's own classes."""

import re
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.configs import Config

_ROOT = Path(__file__).parents[2]
_WORDS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    Any: "any",
    type(None): "null",
}
_LIMITS = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< "}


def config_keys() -> str:
    """A section a part of the config, with a row a key: type, default, meaning."""
    docs = griffe.load("schemas.configs", search_paths=[str(_ROOT)])
    places = dict(_places(Config, ""))
    parts = [f"## The top of the file\n\n{_table(Config, docs, places)}"]
    for section, key in places.items():
        said = docs.members[section.__name__].docstring
        text = [said.value] if said else []
        head = f"## {key} {{ #{_anchor(key)} }}"
        parts.append("\n\n".join([head, *text, _table(section, docs, places)]))
    return "\n\n".join(parts)


def _places(
    model: type[BaseModel], path: str, seen: frozenset[type[BaseModel]] = frozenset()
) -> dict[type[BaseModel], str]:
    """Where each part of the config stands first: the key that it is the value of."""
    places: dict[type[BaseModel], str] = {}
    for name, field in model.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None and inner not in seen | places.keys():
            key = f"{path}{field.alias or name}"
            places[inner] = key
            places |= _places(inner, f"{key}.", seen | places.keys())
    return places


def _table(model: type[BaseModel], docs: Any, places: dict[type[BaseModel], str]) -> str:
    rows = [
        f"| `{field.alias or name}` | {_kind(field, places)} | {_default(field)} | "
        f"{_meaning(model, name, docs)} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| key | what it takes | default | meaning |", "|---|---|---|---|", *rows])


def _anchor(key: str) -> str:
    return key.replace(".", "-")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The config class that a field holds: by itself, in a list, in a mapping or optionally."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section_of(one) for one in get_args(annotation))
    return next((one for one in inner if one is not None), None)


def _kind(field: FieldInfo, places: dict[type[BaseModel], str]) -> str:
    limits = [
        f"{sign}{getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in _LIMITS.items()
        if isinstance(limit, annotated_types.BaseMetadata) and hasattr(limit, name)
    ]
    words, inner = _words(field.annotation), _section_of(field.annotation)
    if inner is not None:
        words = re.sub("sections?", rf"[\g<0>](#{_anchor(places[inner])})", words)
    return " ".join([words, *([f"({', '.join(limits)})"] if limits else [])])


def _words(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inside)
    if origin in (tuple, list):
        return f"list of {_words(inside[0])}" + ("s" if _words(inside[0]) == "section" else "")
    if origin is dict:
        return "mapping" if inside[1] is Any else f"mapping of names to {_words(inside[1])}s"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_words(one) for one in inside)
    return _words(inside[0]) if inside else str(annotation)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its own"
    if value is None:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value in ((), {}, []):
        return "empty"
    return f"`{value}`"


def _meaning(model: type[BaseModel], name: str, docs: Any) -> str:
    for owner in model.__mro__:
        described = docs.members[owner.__name__] if owner.__module__ == Config.__module__ else None
        if described is not None and name in described.members:
            said = described.members[name].docstring
            if said is not None:
                return " ".join(said.value.split()).replace("|", "\\|")
    inner = _section_of(model.model_fields[name].annotation)
    said = None if inner is None else docs.members[inner.__name__].docstring
    return "" if said is None else said.value.splitlines()[0]
