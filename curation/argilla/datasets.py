"""A labelling dataset on the server: found as it was made, or made."""

from collections.abc import Iterable
from typing import Any

from curation.argilla.client import Client, RefusedError
from curation.argilla.settings import DatasetSettings


def ensure_dataset(
    client: Client, name: str, workspace_id: str, settings: DatasetSettings
) -> tuple[str, bool]:
    """The dataset's id, and whether it was made now.

    What annotators see of one that is there (guidelines, page, titles) is brought up to date. A
    draft, which a push left that was cut short, is finished; no dataset is ever deleted.

    Raises:
        ValueError: one with that name asks something else.
    """
    found = _named(client, name, workspace_id)
    is_new = found is None
    if found is None:
        body = {"name": name, "workspace_id": workspace_id, **_frame(settings)}
        is_new = _post_once(client, "/datasets", body, f"make the dataset '{name}'")
        found = _named(client, name, workspace_id)
        if found is None:
            raise ConnectionError(f"dataset '{name}' went from {client.url}; push again")
    if found["status"] != "ready":
        found = _finish(client, name, found["id"], settings)
    _check_same(client, name, found, settings)
    return str(found["id"]), is_new


def _named(client: Client, name: str, workspace_id: str) -> dict[str, Any] | None:
    return next((item for item in client.datasets(workspace_id) if item["name"] == name), None)


def _frame(settings: DatasetSettings) -> dict[str, Any]:
    return {
        "guidelines": settings.guidelines,
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": settings.overlap},
    }


def _finish(
    client: Client, name: str, dataset_id: str, settings: DatasetSettings
) -> dict[str, Any]:
    """The dataset, published; another push may have done part of it, or all.

    Raises:
        ValueError: it asks what we do not ask.
    """
    path, about = f"/datasets/{dataset_id}", f"make the dataset '{name}'"
    parts = [("fields", settings.fields), ("questions", settings.questions)]
    for kind, items in parts:
        theirs = {item["name"] for item in client.get(f"{path}/{kind}")["items"]}
        strange = theirs - {item["name"] for item in items}
        if strange:
            raise ValueError(
                f"the unfinished dataset '{name}' on {client.url} has the {kind} "
                f"{', '.join(sorted(strange))}, which are not ours; delete it there, or give "
                "label.dataset another name"
            )
    try:
        client.patch(path, _frame(settings), about=about)
        for kind, items in (*parts, ("metadata-properties", settings.metadata)):
            for item in items:
                _post_once(client, f"{path}/{kind}", item, f"{about}: {item['name']}")
        client.put(f"{path}/publish", about=about)
    except RefusedError:
        if client.get(path)["status"] != "ready":
            raise
    found: dict[str, Any] = client.get(path)
    return found


def _post_once(client: Client, path: str, body: dict[str, Any], about: str) -> bool:
    """Whether the thing was made now; else it was there, or a first try's answer was lost."""
    try:
        client.post(path, body, about=about)
    except RefusedError as refusal:
        if refusal.status != 409:
            raise
        return False
    return True


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
    for field, wanted in zip(fields, settings.fields, strict=True):
        if field["settings"].get("template") != wanted["settings"]["template"]:
            client.patch(
                f"/fields/{field['id']}",
                {"settings": wanted["settings"]},
                about=f"renew the page of '{name}'",
            )
    titles = {question["name"]: question["title"] for question in settings.questions}
    for question in questions:
        title = titles[question["name"]]
        if question["title"] != title:
            client.patch(
                f"/questions/{question['id']}",
                {"title": title},
                about=f"renew the question '{question['name']}' of '{name}'",
            )


def _asked(questions: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    return {
        item["name"]: [str(option["value"]) for option in item["settings"].get("options", ())]
        for item in questions
    }


def _listed(questions: Iterable[dict[str, Any]]) -> str:
    return "; ".join(f"{name} {options}" for name, options in sorted(_asked(questions).items()))
