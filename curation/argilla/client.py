"""The way to a labelling server: Argilla's own REST API, with retries.

The SDK is not used on the road: it loses the ranks of a ranking, and its settings classes take a
second to import.
"""

import os
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from schemas.configs import LabelConfig

KEY_VARIABLE = "ARGILLA_API_KEY"
TIMEOUT = 60.0
TRIES = 6
FIRST_WAIT = 0.25
"""Seconds before the second try; each later wait is twice as long."""
_BUSY = {429, 500, 502, 503, 504}
_LONGEST_ERROR = 1_500


class RefusedError(ValueError):
    """The server understood a request and refused it; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One user's requests to one server.

    A request that meets a timeout, a lost connection or a busy server is sent again with the same
    content; every request here may arrive twice without harm.

    Raises (from any request):
        RefusedError: the server refuses the request as such.
        PermissionError: it refuses the key, or the key's owner may not do this.
        ConnectionError: it cannot be reached, or stays broken.
    """

    def __init__(
        self, url: str, api_key: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.url = _without_secrets(url)
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1",
            headers={"X-Argilla-Api-Key": api_key},
            timeout=TIMEOUT,
        )

    def get(self, path: str, *, params: dict[str, Any] | None = None) -> Any:
        return self._request("GET", path, params=params)

    def post(self, path: str, json: Any = None, *, about: str = "") -> Any:
        """The answer's JSON; `about` says in an error what was being done."""
        return self._request("POST", path, json=json, about=about)

    def put(self, path: str, json: Any = None, *, about: str = "") -> Any:
        return self._request("PUT", path, json=json, about=about)

    def patch(self, path: str, json: Any = None, *, about: str = "") -> Any:
        return self._request("PATCH", path, json=json, about=about)

    def delete(self, path: str, *, params: dict[str, Any] | None = None, about: str = "") -> Any:
        return self._request("DELETE", path, params=params, about=about)

    def users(self) -> dict[str, str]:
        """User names by user id."""
        return {user["id"]: user["username"] for user in self.get("/users")["items"]}

    def workspaces(self) -> dict[str, str]:
        """Workspace ids by name."""
        return {item["name"]: item["id"] for item in self.get("/me/workspaces")["items"]}

    def workspace_names(self) -> dict[str, str]:
        """Workspace names by id."""
        return {item_id: name for name, item_id in self.workspaces().items()}

    def datasets(self, workspace_id: str | None = None) -> list[dict[str, Any]]:
        """The datasets the user may see, of one workspace or of all, oldest first."""
        params = {} if workspace_id is None else {"workspace_id": workspace_id}
        items: list[dict[str, Any]] = self.get("/me/datasets", params=params)["items"]
        return items

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        about: str = "",
    ) -> Any:
        doing = about or f"{method} {path}"
        trouble = ""
        for number in range(TRIES):
            if number:
                self._sleep(FIRST_WAIT * 2 ** (number - 1) * random.uniform(0.75, 1.25))
            try:
                answer = self._http.request(method, path, json=json, params=params)
            except httpx.RequestError as error:
                trouble = f"{type(error).__name__}"
                continue
            if answer.status_code not in _BUSY:
                return self._read(answer, doing)
            trouble = f"status {answer.status_code}"
        raise ConnectionError(
            _cut(
                f"the labelling server {self.url} did not answer in {TRIES} tries ({trouble}) to: "
                f"{doing}; see that it runs, then do it again: nothing is sent twice"
            )
        )

    def _read(self, answer: httpx.Response, doing: str) -> Any:
        status = answer.status_code
        if answer.is_redirect:
            # Not followed: what is sent would be lost on the way, and the key may not go elsewhere.
            place = _without_secrets(answer.headers.get("location", "another address"))
            raise ConnectionError(
                f"the labelling server {self.url} sends on to {place}; set label.server to where "
                "it is"
            )
        if status == 401:
            raise PermissionError(
                f"the labelling server {self.url} does not know the API key; set {KEY_VARIABLE} "
                "to the key that its page shows under 'my settings'"
            )
        if status == 403:
            raise PermissionError(
                f"the owner of the API key may not do this on {self.url}: {_cut(doing)}; use the "
                "key of an owner"
            )
        if status >= 400:
            raise RefusedError(
                _cut(f"the labelling server refused (status {status}): {_reason(answer)}: {doing}"),
                status,
            )
        if not answer.content and answer.request.method != "GET":
            return None
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConnectionError(
                f"{self.url} answered with something that is no JSON object; is it an Argilla "
                "server?"
            )
        return found


def connect(config: LabelConfig) -> Client:
    """A client of the server that the config names, as its owner.

    Raises:
        ConnectionError: the embedded server does not run, or the server cannot be reached.
        ValueError: the key of another server is missing, or its address is none.
    """
    if config.server == "embedded":
        from curation.argilla.server.home import running

        found = running()
        if found is None:
            raise ConnectionError(
                "no labelling server runs; start it with `pairwright label serve`"
            )
        return Client(found.url, found.api_key)
    if not _is_address(config.server):
        raise ValueError(
            f"label.server is '{config.server.rpartition('@')[2]}'; expected `embedded` or an "
            "address such as https://argilla.example.org"
        )
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise ValueError(
            f"no key for the labelling server {_without_secrets(config.server)}; set "
            f"{KEY_VARIABLE} to the key that its page shows under 'my settings'"
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{KEY_VARIABLE} holds a character that no key has; copy the key again from the page "
            f"of {_without_secrets(config.server)}, 'my settings'"
        )
    return Client(config.server, key)


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and parts.scheme in ("http", "https") and not any(map(str.isspace, server))


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _reason(answer: httpx.Response) -> str:
    """Why a request was refused, without the data that was sent."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
    errors = detail.get("params", {}).get("errors") if isinstance(detail, dict) else None
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        place = ".".join(str(step) for step in errors[0].get("loc", ()))
        return f"{place} {errors[0].get('msg', '')}".strip()[:300]
    if isinstance(detail, dict):
        detail = detail.get("message") or detail.get("params") or detail.get("code") or ""
    return str(detail)[:300]


def _cut(message: str) -> str:
    if len(message) <= _LONGEST_ERROR:
        return message
    return message[:_LONGEST_ERROR] + "..."
