"""A dataset on a live server with people at it, for tests of pull, status and scripts."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.argilla.accounts import ensure_annotators
from curation.argilla.client import Client
from curation.argilla.push import push
from curation.argilla.tasks import LabelPlan, plan_tasks
from schemas.annotations import AnnotationStore
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, Prompt


def item(question: str, *answers: str) -> tuple[Prompt, list[Candidate]]:
    prompt = Prompt(messages=(Message(role="user", content=question),))
    return prompt, [
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(answer),
            origin=Origin(generator="import:test"),
        )
        for answer in answers
    ]


class Desk:
    """One dataset in a workspace of its own; people are `ann`, `bob`, ... for short."""

    def __init__(
        self,
        url: str,
        api_key: str,
        folder: Path,
        people: Sequence[str] = ("ann", "bob"),
        *,
        people_of: "Desk | None" = None,
        **settings: Any,
    ) -> None:
        """With `people_of` the same accounts sit at this desk as at that one."""
        self.mark = uuid.uuid4().hex[:8]
        self.client = Client(url, api_key)
        self.store = AnnotationStore(folder / "annotations")
        names = (people_of or self).mark
        self.people = {name: f"{name}-{names}" for name in people}
        workspace = f"desk-{self.mark}"
        self.config = LabelConfig(
            dataset=f"prefs {self.mark}",
            workspaces={workspace: WorkspaceConfig(annotators=tuple(self.people.values()))},
            **{"overlap": 2, **settings},
        )
        self.passwords = ensure_annotators(self.client, self.config)
        users = {user["username"]: user for user in self.client.get("/users")["items"]}
        self.user_ids = {short: users[name]["id"] for short, name in self.people.items()}
        self.clients = {
            short: Client(url, users[name]["api_key"]) for short, name in self.people.items()
        }

    def push(self, items: Sequence[tuple[Prompt, list[Candidate]]]) -> list[LabelTask]:
        """The tasks, now on the server."""
        plan: LabelPlan = plan_tasks(self.config, items, [], self.store.tasks.read(), seed=0)
        push(self.client, self.store, plan)
        return list(plan.tasks)

    @property
    def dataset_id(self) -> str:
        (found,) = [
            dataset for dataset in self.client.datasets() if dataset["name"] == f"prefs-{self.mark}"
        ]
        return str(found["id"])

    def records(self, dataset_id: str | None = None) -> dict[str, dict[str, Any]]:
        """The server's records by task id, with responses and suggestions."""
        params = {"include": ["responses", "suggestions"], "limit": 1000}
        listed = self.client.get(
            f"/datasets/{dataset_id or self.dataset_id}/records", params=params
        )
        return {record["external_id"]: record for record in listed["items"]}

    def answer(
        self, who: str, task: LabelTask, overall: Any, *, status: str = "submitted", **others: Any
    ) -> None:
        """The answer as the page sends it; given again, it is changed."""
        named = {"overall": overall, **others}
        values = {name: {"value": value} for name, value in named.items() if value is not None}
        record_id = self._record_ids()[task.id]
        body = {"items": [{"record_id": record_id, "status": status, "values": values}]}
        (result,) = self.clients[who].post("/me/responses/bulk", body)["items"]
        assert result["error"] is None, result

    def suggest(self, task: LabelTask, value: Any) -> None:
        questions = self.client.get(f"/datasets/{self.dataset_id}/questions")["items"]
        (overall,) = [question["id"] for question in questions if question["name"] == "overall"]
        body = {"question_id": overall, "value": value, "agent": "rm", "score": 0.9}
        self.client.put(f"/records/{self._record_ids()[task.id]}/suggestions", body)

    def delete_person(self, who: str) -> None:
        self.client.delete(f"/users/{self.user_ids[who]}")

    def _record_ids(self) -> dict[str, str]:
        return {task_id: record["id"] for task_id, record in self.records().items()}
