"""What a run needs and whether this machine has it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from schemas.configs import (
    AggregateConfig,
    Config,
    ConversationSource,
    EndpointConfig,
    LabelConfig,
    ModelConfig,
    PromptSource,
)

_GIB = 1 << 30
_LITTLE_MEMORY, _LITTLE_DISK = 4 * _GIB, 2 * _GIB


class Finding(NamedTuple):
    name: str
    state: Literal["ok", "warning", "missing"]
    detail: str
    """What was found and, where something is missing, how to mend it."""


def examine(config: Config | None) -> list[Finding]:
    """What was found, the config's model and template among it where a config is given."""
    checks: list[Callable[[], Iterator[Finding]]] = [_python, _packages, _torch, _memory]
    folder = Path.cwd() if config is None else config.run
    checks += [lambda: iter([disk_finding("run folder", folder, key="run")]), _cache]
    if config is not None:
        checks += [
            lambda: _data(config),
            lambda: _model(config.model),
            lambda: _trainers(config),
            lambda: _endpoints(config),
            lambda: _rewards(config),
        ]
        label, aggregate = config.label, config.aggregate
        if label is not None:
            checks.append(lambda: _labelling(label, aggregate))
    return [finding for check in checks for finding in check()]


def findings_table(findings: Sequence[Finding]) -> Table:
    styles = {"ok": "green", "warning": "yellow", "missing": "red"}
    table = Table("check", "state", "detail", box=None, pad_edge=False)
    for name, state, detail in findings:
        table.add_row(name, Text(state, style=styles[state]), Text(detail))
    return table


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    fits = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if fits else "missing", version if fits else f"{version}; 3.11 is needed"
    )


def _packages() -> Iterator[Finding]:
    """One finding a requirement of pairwright's own, without its extras."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in metadata.requires("pairwright") or ()]
    except metadata.PackageNotFoundError:
        yield Finding("pairwright", "missing", "not installed; `pip install pairwright`")
        return
    for requirement in sorted(wanted, key=lambda one: one.name):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            mend = f"not installed; `pip install '{requirement.name}{requirement.specifier}'`"
            yield Finding(requirement.name, "missing", mend)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding(requirement.name, "ok", version)
        else:
            mend = f"{version}; {requirement.specifier} is needed"
            yield Finding(requirement.name, "missing", mend)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("device", "missing", f"torch does not import: {error}")
        return
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / _GIB
        detail = f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    else:
        detail = f"CPU, {torch.get_num_threads()} threads; no GPU that torch can use"
    yield Finding("device", "ok", detail)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    state: Literal["ok", "warning"] = "ok" if total >= _LITTLE_MEMORY else "warning"
    yield Finding("memory", state, f"{total / _GIB:.1f} GiB")


def disk_finding(name: str, folder: Path, *, key: str) -> Finding:
    """Room and right to write where the folder is, or would be made; `key` says what sets it."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if not there.is_dir():
        return Finding(name, "missing", f"'{there}' is a file; choose another ({key})")
    if not os.access(there, os.W_OK):
        return Finding(name, "missing", f"'{there}' cannot be written; choose another ({key})")
    state: Literal["ok", "warning"] = "ok" if free >= _LITTLE_DISK else "warning"
    return Finding(name, state, f"{free / _GIB:.1f} GiB free at '{folder}'")


def _labelling(config: LabelConfig, aggregate: AggregateConfig) -> Iterator[Finding]:
    from pairwright.doctor_labelling import labelling_findings

    return labelling_findings(config, aggregate)


def _cache() -> Iterator[Finding]:
    from curation.bundled import cache_folder

    folder = cache_folder()
    there = folder
    while not there.exists():
        there = there.parent
    if os.access(there, os.W_OK):
        yield Finding("cache", "ok", str(folder))
    else:
        mend = f"'{folder}' cannot be written; set PAIRWRIGHT_CACHE to a folder that can"
        yield Finding("cache", "warning", mend)


def _data(config: Config) -> Iterator[Finding]:
    """Whether what the config reads is there; a dataset that is no file here is not fetched."""
    from curation.formats.files import open_rows

    read: dict[str, Sequence[PromptSource | ConversationSource]] = {
        "prompts": config.prompts,
        "held-out prompts": config.evaluate.prompts,
        "conversations": config.sft.data if config.sft is not None else (),
    }
    for name, sources in read.items():
        for source in sources:
            try:
                rows = open_rows(source.path, split=source.split).rows
                if not Path(source.path).expanduser().exists():
                    yield Finding(name, "ok", f"'{source.path}', a dataset's name; not looked for")
                elif next(rows, None) is None:
                    yield Finding(name, "missing", f"'{source.path}' has no rows")
                else:
                    yield Finding(name, "ok", f"'{source.path}'")
            except (ValueError, OSError) as error:
                yield Finding(name, "missing", " ".join(str(error).split()))


def _model(config: ModelConfig) -> Iterator[Finding]:
    """Whether model and template are there; the weights are looked for, not loaded."""
    from curation.models import load_chat, weights_hash

    try:
        yield Finding("model", "ok", f"{config.path}, weights {weights_hash(config)}")
    except (ValueError, OSError, ImportError) as error:
        yield Finding("model", "missing", " ".join(str(error).split()))
        return
    try:
        report = load_chat(config).report()
    except (ValueError, OSError) as error:
        yield Finding("chat template", "missing", " ".join(str(error).split()))
        return
    traits = [
        f"hash {report.hash}",
        f"{'takes' if report.supports_system else 'refuses'} a system role",
        f"{'takes' if report.supports_tools else 'ignores'} tools",
        f"ends with {report.eos!r}" if report.ends_with_eos else "does not end with EOS",
    ]
    if report.prefill:
        traits.append(f"opens the answer with {report.prefill!r}")
    yield Finding("chat template", "ok", ", ".join(traits))
    for warning in report.warnings:
        yield Finding("chat template", "warning", warning)


def _trainers(config: Config) -> Iterator[Finding]:
    """Whether TRL takes the keys of each section that trains."""
    from pairwright.plugins import check_trainer
    from pairwright.settings import policy_stage

    asked = [name for name in ("sft", "reward") if getattr(config, name) is not None]
    for stage in (*asked, policy_stage(config)):
        keys = getattr(getattr(config, stage), "trainer", None)
        if keys is None:
            continue
        name = f"{stage} trainer keys"
        try:
            check_trainer(config, stage)
        except (ValueError, ImportError) as error:
            yield Finding(name, "missing", " ".join(str(error).split()))
        else:
            yield Finding(name, "ok", f"{len(keys)} keys that TRL knows")


def _endpoints(config: Config) -> Iterator[Finding]:
    """Whether what asks other servers is there; none is asked here."""
    from importlib.util import find_spec

    if not any(True for _ in _endpoints_in(config.model_dump(mode="json"))):
        return
    for package in ("openai", "aiolimiter"):
        if find_spec(package) is None:
            yield Finding(package, "missing", f"an endpoint needs it; `pip install {package}`")
    variables = dict.fromkeys(
        str(endpoint.get("key_variable") or EndpointConfig.model_fields["key_variable"].default)
        for endpoint in _endpoints_in(config.model_dump(mode="json"))
    )
    for variable in variables:
        if os.environ.get(variable):
            yield Finding("endpoint key", "ok", f"in {variable}")
        else:
            yield Finding(
                "endpoint key", "warning", f"{variable} is not set, as a server with keys needs"
            )


def _endpoints_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """The endpoints that the config names, in whatever section."""
    if isinstance(value, list):
        for item in value:
            yield from _endpoints_in(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key == "endpoint" and isinstance(item, Mapping):
                yield item
            else:
                yield from _endpoints_in(item)


def _rewards(config: Config) -> Iterator[Finding]:
    """Whether rewards, judges and strategies are there and fit; no weights load."""
    from pairwright.plugins import check_all

    try:
        check_all(config)
    except (ValueError, OSError, ImportError) as error:
        yield Finding("rewards", "missing", " ".join(str(error).split()))
