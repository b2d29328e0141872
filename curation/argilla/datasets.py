"""A labelling dataset on the server: found as it was made, or made."""

from collections.abc import Iterable
from typing import Any

from curation.argilla.client import Client, RefusedError
from curation.argilla.settings import DatasetSettings


def ensure_dataset(
    client: Client, name: str, workspace_id: str, settings: DatasetSettings
) -> tuple[str, bool]:
    """The dataset's id, and whether it was made now.

    Raises:
        ValueError: one with that name asks something else.
    """
    for found in client.datasets(workspace_id):
        if found["name"] == name:
            if found["status"] == "ready":
                _check_same(client, name, found, settings)
                return found["id"], False
            # A push was cut short while it made the dataset: a draft holds no records.
            client.delete(f"/datasets/{found['id']}", about=f"remove the unfinished '{name}'")
    return _make_dataset(client, name, workspace_id, settings), True


def _make_dataset(client: Client, name: str, workspace_id: str, settings: DatasetSettings) -> str:
    about = f"make the dataset '{name}'"
    body = {
        "name": name,
        "workspace_id": workspace_id,
        "guidelines": settings.guidelines,
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": settings.overlap},
    }
    _post_once(client, "/datasets", body, about)
    found = [item for item in client.datasets(workspace_id) if item["name"] == name]
    path = f"/datasets/{found[0]['id']}"
    parts = [("fields", settings.fields), ("questions", settings.questions)]
    for kind, items in (*parts, ("metadata-properties", settings.metadata)):
        for item in items:
            _post_once(client, f"{path}/{kind}", item, f"{about}: {item['name']}")
    try:
        client.put(f"{path}/publish", about=about)
    except RefusedError:
        if client.get(path)["status"] != "ready":
            raise
    return str(found[0]["id"])


def _post_once(client: Client, path: str, body: dict[str, Any], about: str) -> None:
    """The thing is there; that it was there already means that a first try's answer was lost."""
    try:
        client.post(path, body, about=about)
    except RefusedError as refusal:
        if refusal.status != 409:
            raise


def _check_same(
    client: Client, name: str, found: dict[str, Any], settings: DatasetSettings
) -> None:
    questions = client.get(f"/datasets/{found['id']}/questions")["items"]
    fields = client.get(f"/datasets/{found['id']}/fields")["items"]
    differs = None
    if found["distribution"]["min_submitted"] != settings.overlap:
        differs = f"an overlap of {found['distribution']['min_submitted']}, not {settings.overlap}"
    elif _asked(questions) != _asked(settings.questions):
        differs = f"the questions {_listed(questions)}, not {_listed(settings.questions)}"
    elif [field["name"] for field in fields] != [field["name"] for field in settings.fields]:
        differs = f"the fields {[field['name'] for field in fields]}, which are not ours"
    if differs is not None:
        raise ValueError(
            f"dataset '{name}' on {client.url} has {differs}; both are fixed when a dataset is "
            "made, so give label.dataset another name"
        )
    if found["guidelines"] != settings.guidelines:
        client.patch(
            f"/datasets/{found['id']}",
            {"guidelines": settings.guidelines},
            about=f"renew the guidelines of '{name}'",
        )


def _asked(questions: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    return {
        item["name"]: [str(option["value"]) for option in item["settings"].get("options", ())]
        for item in questions
    }


def _listed(questions: Iterable[dict[str, Any]]) -> str:
    return "; ".join(f"{name} {options}" for name, options in sorted(_asked(questions).items()))
