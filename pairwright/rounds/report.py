"""The report across rounds: `report.html` and `report.json` in the folder that holds them."""

import json
from typing import Any

from pairwright.report.write import Report
from pairwright.rounds.figures import RoundsFindings
from pairwright.rounds.page import render
from schemas import SCHEMA_VERSION
from schemas.run_folder import write_atomic


def write_rounds_report(found: RoundsFindings) -> Report:
    """The two files, written from what the rounds stored; the same rounds give the same bytes."""
    page, data = render(found), to_json(found)
    report = Report(found.folder / "report.html", found.folder / "report.json")
    write_atomic(report.html, page.encode("utf-8", "replace"))
    write_atomic(report.json, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode("ascii"))
    return report


def to_json(found: RoundsFindings) -> dict[str, Any]:
    """The findings as JSON values; what was not measured is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": found.verdict.model_dump(),
        "warnings": found.warnings,
        "count": found.most,
        "stopped": found.stopped,
        "model": found.model,
        "prompts": found.prompts,
        "confidence_level": found.confidence_level,
        "first": None if found.first is None else found.first.model_dump(),
        "first_tokens": found.first_tokens,
        "rounds": [row.model_dump(mode="json") for row in found.rounds],
    }
