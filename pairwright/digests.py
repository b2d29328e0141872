"""What stands for the content of files and code that a stage reads, and how two configs differ."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.configs import ConversationSource, PromptSource
from schemas.records import content_hash
from schemas.run_folder import file_sha256

_OWN_PACKAGES = ("schemas", "curation", "dpo", "pairwright")


def source_digest(source: PromptSource | ConversationSource) -> str:
    """The hash of a file or folder; of a hub name, which has no content here, its name."""
    path = Path(source.path)
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return content_hash([[str(file.relative_to(path)), file_sha256(file)] for file in files])
    return content_hash(source.path, source.split)


def code_digests(uses: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each user module that a `package.module:name` points into."""
    digests = {}
    for use in uses:
        module = use.partition(":")[0]
        if module.partition(".")[0] in _OWN_PACKAGES:
            continue
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
            digests[f"code:{module}"] = file_sha256(Path(spec.origin))
    return digests


def differences(before: Any, now: Any, at: str = "") -> list[str]:
    """`key: old -> new` for every leaf where two configs differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            change
            for key in sorted(set(before) | set(now))
            for change in differences(before.get(key), now.get(key), f"{at}.{key}" if at else key)
        ]
    return [] if before == now else [f"{at}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
