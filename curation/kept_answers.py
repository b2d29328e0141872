"""Answers of a server on disk, so that none is paid for twice when the work on them is cut off."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class KeptAnswers:
    """A JSONL file of answers by what was asked; a line that a kill left half is not read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._answers: dict[str, dict[str, Any]] = {}
        if file.exists():
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    try:
                        kept = json.loads(line)
                    except ValueError:
                        continue
                    self._answers[kept["key"]] = kept["answer"]

    def get(self, key: str) -> dict[str, Any] | None:
        return self._answers.get(key)

    def put(self, key: str, answer: Mapping[str, Any]) -> None:
        """Store the answer; a process that is killed the next moment has kept it."""
        self._answers[key] = dict(answer)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with open(self._file, "a", encoding="utf-8") as file:
            # A half line before it ends here.
            file.write("\n" + json.dumps({"key": key, "answer": self._answers[key]}))

    def forget(self) -> None:
        """Delete the file: what came of the answers is stored elsewhere."""
        self._answers = {}
        self._file.unlink(missing_ok=True)
