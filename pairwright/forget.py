"""Taking a person or a prompt out for good: of the store, of the run, and of all made from them."""

import shutil
from typing import Literal, NamedTuple

from pairwright.plan import UPSTREAM, Plan
from schemas.annotations import AnnotationStore
from schemas.labels import Tombstone
from schemas.records import Prompt, content_hash

_FIRST_STAGE = {"annotator": "label", "prompt": "prompts"}
"""The first stage that holds data of such a kind."""


class Forgotten(NamedTuple):
    tombstone: Tombstone
    on_server: int | None
    """Answers or records deleted on the labelling server; None where it could not be reached."""
    stages: list[str]
    """The stages that were deleted, as they were made from what is gone."""


def forget(plan: Plan, kind: Literal["annotator", "prompt"], name: str) -> Forgotten:
    """Remove the annotator of that name, or the prompt of that id, and leave a tombstone.

    The stages made from it are deleted with all that came of them; the next `run` makes them again
    without it.

    Raises:
        ValueError: neither the store nor the run knows such a thing.
    """
    store = plan.annotations
    if not _known(plan, store, kind, name):
        raise ValueError(
            f"no {kind} '{name}' is in '{store.folder}' or in run '{plan.run.path}'; "
            f"expected {'a user name' if kind == 'annotator' else 'a prompt id such as p-1234'}"
        )
    with plan.run.writing():
        on_server = _erase(plan, store, kind, name)
        remove = store.forget_annotator if kind == "annotator" else store.forget_prompt
        tombstone = remove(name)
        stages = []
        for stage in _made_from(_FIRST_STAGE[kind]):
            folder = plan.run.stage(stage).folder
            if folder.exists():
                shutil.rmtree(folder)
                stages.append(stage)
        for report in ("report.html", "report.json"):
            (plan.run.path / report).unlink(missing_ok=True)
    return Forgotten(tombstone, on_server, stages)


def _erase(
    plan: Plan, store: AnnotationStore, kind: Literal["annotator", "prompt"], name: str
) -> int | None:
    """What is deleted on the server, as far as the store knows that it is there."""
    from curation.argilla.client import connect
    from curation.argilla.erase import erase_answers, erase_records

    if plan.config.label is None:
        return None
    try:
        with connect(plan.config.label) as client:
            if kind == "prompt":
                tasks = [task for task in store.tasks.read() if task.prompt.id == name]
                return erase_records(client, tasks)
            theirs = (item for item in store.judgements.read() if item.annotator.name == name)
            return erase_answers(client, {item.external_id for item in theirs if item.external_id})
    except (OSError, ValueError):
        return None


def _made_from(first: str) -> list[str]:
    """The stage and all that read from it, or from what does."""
    made = [first]
    for stage, sources in UPSTREAM.items():
        if stage not in made and set(sources) & set(made):
            made.append(stage)
    return made


def _known(
    plan: Plan, store: AnnotationStore, kind: Literal["annotator", "prompt"], name: str
) -> bool:
    if content_hash(name) in store.forgotten(kind):
        return True
    if kind == "annotator":
        return any(item.annotator.name == name for item in store.judgements.read())
    asked = (prompt.id for prompt in plan.run.stage("prompts").read(Prompt))
    return name in asked or any(task.prompt.id == name for task in store.tasks.read())
