"""The report of a run: one page for people and one JSON file for programs.

Both are drawn from the run's stored files alone and hold no clock: the same run gives the same
bytes.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pairwright.report.findings import Findings, read_findings
from pairwright.report.page import render
from schemas import SCHEMA_VERSION
from schemas.run_folder import Manifest, RunFolder, write_atomic

_VARYING = {"train_seconds", "seconds", "resumed_from_step"}
"""Facts of a training that differ between runs that are otherwise the same."""


class Report(NamedTuple):
    html: Path
    json: Path


def write_report(run: RunFolder, out: Path) -> Report:
    """Write `report.html` and `report.json` about the run into the folder `out`.

    Raises:
        ValueError: there is no run, or a file of it is damaged.
    """
    found = read_findings(run)
    page, data = render(found), to_json(found)
    report = Report(out / "report.html", out / "report.json")
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    write_atomic(report.html, page.encode("utf-8", "replace"))
    write_atomic(report.json, text.encode("ascii"))
    return report


def to_json(found: Findings) -> dict[str, Any]:
    """The findings as JSON values; what the run does not hold is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": found.run.resolve().name,
        "verdict": found.verdict.model_dump(),
        "warnings": found.warnings,
        "missing": {item.stage: item.what for item in found.missing},
        "funnel": found.funnel.model_dump(),
        "template": found.facts("generate").get("template"),
        "generation": {
            key: found.facts("generate").get(key) for key in ("model", "weights", "sampling")
        },
        "labelling": None if found.people is None else found.people.data(),
        "gate": _gate(found),
        "sft": None if found.sft is None else _settled(found.sft.facts) | found.sft.data(),
        "reward_model": _reward_model(found),
        "training": _training(found),
        "online": (
            None if found.online is None else _settled(found.online.facts) | found.online.data()
        ),
        "evaluation": None if found.summary is None else found.summary.model_dump(),
        "provenance": {name: _provenance(stage) for name, stage in found.manifests.items()},
    }


def _gate(found: Findings) -> dict[str, Any] | None:
    manifest = found.manifests.get("validate")
    if manifest is None or manifest.state != "complete":
        return None
    return {"counts": manifest.counts, "reasons": manifest.reasons}


def _training(found: Findings) -> dict[str, Any] | None:
    if not found.steps:
        return None
    facts = _settled(found.facts("dpo"))
    if isinstance(facts.get("reference"), dict):
        facts["reference"] = {k: v for k, v in facts["reference"].items() if k != "cache_hit"}
    first, last = found.steps[0], found.steps[-1]
    return {
        **facts,
        "confidence": facts.get("confidence"),
        "steps": len(found.steps),
        "epochs": last.epoch,
        "first_loss": first.loss,
        "last_loss": last.loss,
    }


def _reward_model(found: Findings) -> dict[str, Any] | None:
    if found.reward_model is None:
        return None
    trained, held_out = found.reward_model
    measured = None if held_out is None else held_out.model_dump(mode="json")
    return _settled(trained.facts) | trained.data() | {"held_out": measured}


def _settled(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that do not differ between runs that are otherwise the same."""
    return {key: value for key, value in facts.items() if key not in _VARYING}


def _provenance(manifest: Manifest) -> dict[str, Any]:
    config = manifest.config if isinstance(manifest.config, dict) else {}
    return {
        "state": manifest.state,
        "fingerprint": manifest.fingerprint,
        "seed": config.get("seed"),
        "inputs": manifest.inputs,
        "packages": manifest.packages,
        "parts": manifest.parts,
    }
