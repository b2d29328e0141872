"""The one plug-in point: a name in a config becomes a Python object."""

import importlib
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
        public = sorted(key for key in vars(module) if not key.startswith("_"))
        raise ValueError(
            f"'{path}': module '{module_name}' has no '{name}'; it has {', '.join(public)}"
        ) from None
