"""Whether people can be asked: the labelling server, its key, and room for what they answer."""

import importlib.util
import os
import sqlite3
from collections.abc import Iterator

from pairwright.doctor import Finding, disk_finding
from schemas.configs import AggregateConfig, LabelConfig

_PATIENCE = 10.0
"""Seconds that a server may take to say that it is there."""


def labelling_findings(config: LabelConfig, aggregate: AggregateConfig) -> Iterator[Finding]:
    """What was found about the section `label`; nothing is installed or started."""
    from pairwright.labels.asking import check_labels

    try:
        check_labels(config, aggregate)
    except ValueError as error:
        yield Finding("labelling", "missing", str(error))
    else:
        yield Finding("labelling", "ok", _who(config))
    if config.server == "embedded":
        yield from _embedded(config)
    else:
        yield _elsewhere(config)
    yield disk_finding("annotations", config.annotations, key="label.annotations")


def _who(config: LabelConfig) -> str:
    people = {name for group in config.workspaces.values() for name in group.annotators}
    scripts = people & {script.name for script in config.simulated}
    simulated = f", {len(scripts)} of them simulated" if scripts else ""
    plural = "" if len(people) == 1 else "s"
    return f"{len(people)} annotator{plural}{simulated}, {config.overlap} for each record"


def _embedded(config: LabelConfig) -> Iterator[Finding]:
    from curation.argilla.server.environment import Installed, environment_folder
    from curation.argilla.server.home import default_home, running

    installed = Installed(environment_folder())
    # The database is the last thing that an installation makes.
    if installed.empty_database.is_file() and os.access(installed.python, os.X_OK):
        yield Finding("labelling server", "ok", f"installed in '{installed.folder}'")
    elif importlib.util.find_spec("ensurepip") is None:
        mend = "this Python makes no virtual environments; install its venv package (python3-venv)"
        yield Finding("labelling server", "missing", mend)
    else:
        detail = "not installed yet; `pairwright label serve` makes it once (600 MB, with pip)"
        yield Finding("labelling server", "ok", detail)
    if not _has_text_search():
        mend = "this Python's SQLite has no FTS5, which the search of the labelling server needs"
        yield Finding("full-text search", "missing", mend)
    found = running()
    if found is not None:
        answer = _answer(found.url, found.api_key, shown=found.url, proxies=False)
        yield answer._replace(name="running server")
    else:
        starts = "starts by itself" if config.simulated else "`pairwright label serve` starts it"
        yield Finding("running server", "ok", f"none now; {starts}")
    yield disk_finding("labelling data", default_home(), key="PAIRWRIGHT_ARGILLA_HOME")


def _elsewhere(config: LabelConfig) -> Finding:
    """Whether a server that is not ours answers to the key in the environment."""
    from curation.argilla.client import KEY_VARIABLE, connect

    try:
        with connect(config) as client:
            shown = client.url
    except ValueError as error:
        return Finding("labelling server", "missing", str(error))
    key = os.environ[KEY_VARIABLE].strip()
    return _answer(config.server.rstrip("/"), key, shown=shown, proxies=True)


def _answer(url: str, key: str, *, shown: str, proxies: bool) -> Finding:
    """What the server says of itself and of the key's owner; one try, without a secret in it."""
    import httpx

    name, headers = "labelling server", {"X-Argilla-Api-Key": key}
    try:
        with httpx.Client(headers=headers, timeout=_PATIENCE, trust_env=proxies) as http:
            version = http.get(f"{url}/api/v1/version")
            me = http.get(f"{url}/api/v1/me")
        if me.status_code == 401:
            mend = f"{shown} does not know the key in ARGILLA_API_KEY; its page shows yours"
            return Finding(name, "missing", mend)
        version.raise_for_status()
        me.raise_for_status()
        number, user = version.json()["version"], me.json()
        detail = f"Argilla {number} answers at {shown} to '{user['username']}' ({user['role']})"
    except httpx.HTTPStatusError as error:
        detail = f"{shown} answers with status {error.response.status_code}; is it an Argilla?"
        return Finding(name, "missing", detail)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        detail = f"{shown} does not answer ({type(error).__name__}); see that it runs"
        return Finding(name, "missing", detail)
    except (ValueError, KeyError, TypeError):
        detail = f"{shown} answers with something else than an Argilla server does"
        return Finding(name, "missing", detail)
    if user["role"] != "owner":
        return Finding(name, "missing", f"{detail}; the key of an owner is needed")
    return Finding(name, "ok", detail)


def _has_text_search() -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True
