"""The one plug-in point: a name in a config becomes a Python object."""

import difflib
import importlib
from types import ModuleType
from typing import Any


def resolve(path: str) -> Any:
    """The object that `package.module:name` names.

    Raises:
        ValueError: the path is malformed, the module does not import, or it has no such name.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"'{path}' is not of the form package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"'{path}': cannot import '{module_name}': {error}") from error
    try:
        return getattr(module, name)
    except AttributeError:
        own = sorted(
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and getattr(value, "__module__", module_name) == module_name
            and not isinstance(value, ModuleType)
        )
        near = difflib.get_close_matches(name, own, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(own) or 'nothing'}"
        raise ValueError(f"'{path}': module '{module_name}' has no '{name}'; {hint}") from None
