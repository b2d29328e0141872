"""Workspaces and annotators' accounts, made where the server has none yet."""

import secrets
from collections.abc import Sequence

from curation.argilla.client import Client, RefusedError
from curation.argilla.names import check_account_names
from schemas.configs import LabelConfig

PASSWORD_BYTES = 9
"""Twelve characters: one that a person can type once, and nobody guesses."""


def ensure_annotators(client: Client, config: LabelConfig) -> dict[str, str]:
    """The passwords of the accounts made now, by user name; who had one keeps it.

    Afterwards each workspace of the config exists and its annotators belong to it. A password can
    be shown now and never again.

    Raises:
        ValueError: a name cannot be a user's or a workspace's; nothing was made.
    """
    wanted = _wanted(config)
    check_account_names(config.workspaces, what="workspace")
    check_account_names(wanted, what="annotator")
    known = set(client.users().values())
    passwords = {}
    for name in wanted:
        if name not in known:
            passwords[name] = secrets.token_urlsafe(PASSWORD_BYTES)
            _make_user(client, name, passwords[name])
    ensure_workspaces(client, config)
    return passwords


def ensure_workspaces(client: Client, config: LabelConfig) -> None:
    """Each workspace of the config exists and its annotators, who have accounts, belong to it.

    Raises:
        ValueError: accounts are missing, all of them named, or a name cannot be a workspace's;
            nothing was made.
    """
    check_account_names(config.workspaces, what="workspace")
    users = {user["username"]: user for user in client.get("/users")["items"]}
    missing = [f"annotator '{name}'" for name in _wanted(config) if name not in users]
    if missing:
        raise _lacks(client, missing)
    workspaces = client.workspaces()
    for workspace, group in config.workspaces.items():
        if workspace not in workspaces:
            workspaces[workspace] = _make_workspace(client, workspace)
        members = _members(client, workspaces[workspace])
        for name in group.annotators:
            if name not in members and users[name]["role"] != "owner":
                _assign(client, workspaces[workspace], users[name]["id"], name)


def workspace_ids(client: Client, config: LabelConfig) -> dict[str, str]:
    """The ids of the config's workspaces by name, each with all its annotators in it.

    Raises:
        ValueError: a workspace or an annotator is missing on the server; one error lists all.
    """
    known, users = client.workspaces(), set(client.users().values())
    missing = [f"workspace '{name}'" for name in config.workspaces if name not in known]
    missing += [f"annotator '{name}'" for name in _wanted(config) if name not in users]
    for name, group in config.workspaces.items():
        if name in known:
            members = _members(client, known[name])
            missing += [
                f"annotator '{annotator}' in workspace '{name}'"
                for annotator in group.annotators
                if annotator in users and annotator not in members
            ]
    if missing:
        raise _lacks(client, missing)
    return {name: known[name] for name in config.workspaces}


def _lacks(client: Client, missing: Sequence[str]) -> ValueError:
    return ValueError(
        f"the labelling server {client.url} lacks {', '.join(missing)}; nothing was sent; "
        "make the accounts first, or mend label.workspaces"
    )


def _wanted(config: LabelConfig) -> list[str]:
    """Every annotator once, in the config's order."""
    groups = config.workspaces.values()
    return list(dict.fromkeys(name for group in groups for name in group.annotators))


def _members(client: Client, workspace_id: str) -> set[str]:
    users = client.get(f"/workspaces/{workspace_id}/users")["items"]
    # An owner sees every workspace without being in one.
    owners = (user for user in client.get("/users")["items"] if user["role"] == "owner")
    return {user["username"] for user in (*users, *owners)}


def _make_user(client: Client, name: str, password: str) -> None:
    body = {"first_name": name, "username": name, "role": "annotator", "password": password}
    try:
        client.post("/users", body, about=f"make the account '{name}'")
    except RefusedError as refusal:
        # It was not there a moment ago: the first try arrived, and its answer was lost.
        if refusal.status != 409 or name not in client.users().values():
            raise


def _make_workspace(client: Client, name: str) -> str:
    try:
        made = client.post("/workspaces", {"name": name}, about=f"make the workspace '{name}'")
    except RefusedError as refusal:
        workspaces = client.workspaces()
        if refusal.status != 409 or name not in workspaces:
            raise
        return workspaces[name]
    return str(made["id"])


def _assign(client: Client, workspace_id: str, user_id: str, name: str) -> None:
    try:
        client.post(
            f"/workspaces/{workspace_id}/users",
            {"user_id": user_id},
            about=f"put '{name}' into a workspace",
        )
    except RefusedError as refusal:
        if refusal.status != 409:
            raise
