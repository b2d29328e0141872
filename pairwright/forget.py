"""Taking a person or a prompt out for good: of the store, of its runs, of all made from them."""

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow.parquet as pq

from pairwright.plan import UPSTREAM, Plan
from pairwright.road import CONFIG_COPY, stored_plan
from schemas.annotations import AnnotationStore
from schemas.labels import Tombstone
from schemas.records import Prompt, content_hash
from schemas.run_folder import RunFolder

Kind = Literal["annotator", "prompt"]

_ROUND = re.compile(r"round-(\d+)")


class Forgotten(NamedTuple):
    tombstone: Tombstone
    on_server: int | None
    """Answers or records deleted on the labelling server; None where it could not be reached."""
    stages: list[str]
    """The stages that were deleted, as they were made from what is gone."""
    other_runs: dict[str, list[str]]
    """The same of the runs beside this one that share its annotation store, by their folders."""


def forget(plan: Plan, kind: Kind, name: str) -> Forgotten:
    """Remove the annotator of that name, or the prompt of that id, and leave a tombstone.

    The stages made from it are deleted with all that came of them, here and in the runs beside
    this one that have the same annotation store, rounds among them; the next `run` or `rounds`
    makes them again without it.

    Raises:
        ValueError: the store is not there, neither it nor the run nor the server knows such a
            thing, or another process writes one of the runs; nothing is removed then.
    """
    store = plan.annotations
    if not store.folder.is_dir() and not _never_labelled(plan):
        raise ValueError(
            f"annotation folder '{store.folder}' of run '{plan.run.path}' does not exist here, in "
            f"'{Path.cwd()}'; run `pairwright forget` where the run was made"
        )
    others = runs_beside(plan)
    with contextlib.ExitStack() as locks:
        locks.enter_context(plan.run.writing())
        for other in others:
            locks.enter_context(_held_still(other))
        answers = _answers_on_server(plan, store, name) if kind == "annotator" else None
        if not answers and not _known(plan, store, kind, name):
            raise ValueError(
                f"no {kind} '{name}' is in '{store.folder}' or in run '{plan.run.path}'; "
                f"expected {'a user name' if kind == 'annotator' else 'a prompt id such as p-1234'}"
            )
        on_server = _erase(plan, store, kind, name, answers)
        remove = store.forget_annotator if kind == "annotator" else store.forget_prompt
        tombstone = remove(name)
        # This run goes last: after a kill it is still there to name in the same command.
        deleted = {str(other.path): _delete(other, kind, name) for other in others}
        stages = _delete(plan.run, kind, name)
    return Forgotten(
        tombstone, on_server, stages, {path: gone for path, gone in deleted.items() if gone}
    )


def _never_labelled(plan: Plan) -> bool:
    """Whether the run asks nobody, so that it has no store before something is forgotten.

    A run whose prompt files are not here was made elsewhere, and a tombstone must lie there.
    """
    sources = [Path(source.path) for source in plan.config.prompts]
    return plan.config.label is None and all(source.exists() for source in sources if source.suffix)


def runs_beside(plan: Plan) -> list[RunFolder]:
    """The other runs in the folder of this one that have its annotation store.

    Raises:
        ValueError: the config that such a run keeps cannot be read.
    """
    own, store = plan.run.path.resolve(), plan.annotations.folder.resolve()
    found = []
    for file in sorted(_configs_beside(own)):
        run = RunFolder(file.parent)
        if run.path.resolve() == own or not run.stages():
            continue
        try:
            other = stored_plan(run)
        except ValueError as error:
            raise ValueError(
                f"run '{run.path}' beside this one may hold a copy, but its {CONFIG_COPY} cannot "
                f"be read ({error}); mend it, or move the run away"
            ) from None
        if other.annotations.folder.resolve() == store:
            found.append(run)
    return found


def _configs_beside(run: Path) -> Iterator[Path]:
    """The configs of the runs in the folder of this one, and of rounds there."""
    folder = run.parent if _round(run) is None else run.parents[1]
    yield from folder.glob(f"*/{CONFIG_COPY}")
    yield from folder.glob(f"*/round-*/{CONFIG_COPY}")


@contextlib.contextmanager
def _held_still(run: RunFolder) -> Iterator[None]:
    """Hold another run for writing; the error says what its being written means here."""
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(run.writing())
        except ValueError:
            raise ValueError(
                f"run '{run.path}' beside this one may hold a copy and is being written by another "
                "process; nothing was removed; wait for it, then forget again"
            ) from None
        yield


def _answers_on_server(plan: Plan, store: AnnotationStore, name: str) -> list[str] | None:
    """The ids of the person's responses; None where the server cannot be reached."""
    from curation.argilla.client import connect
    from curation.argilla.erase import answers_of

    if plan.config.label is None:
        return None
    try:
        with connect(plan.config.label) as client:
            return answers_of(client, store, name)
    except (OSError, ValueError):
        return None


def _erase(
    plan: Plan, store: AnnotationStore, kind: Kind, name: str, answers: list[str] | None
) -> int | None:
    """What is deleted on the server, as far as the store knows that it is there."""
    from curation.argilla.client import connect
    from curation.argilla.erase import erase_answers, erase_records

    if plan.config.label is None or (kind == "annotator" and answers is None):
        return None
    try:
        with connect(plan.config.label) as client:
            if answers is not None:
                return erase_answers(client, answers)
            tasks = [task for task in store.tasks.read() if task.prompt.id == name]
            return erase_records(client, tasks)
    except (OSError, ValueError):
        return None


def _delete(run: RunFolder, kind: Kind, name: str) -> list[str]:
    """The stages of the run that were made from it, now deleted, and the reports with them."""
    first = _first_deleted(run, kind, name)
    stages = [] if first is None else _made_from(run, first)
    # The last goes first: after a kill, what is left still shows what it was made from.
    for stage in reversed(stages):
        shutil.rmtree(run.stage(stage).folder)
    if stages:
        for report in ("report.html", "report.json"):
            (run.path / report).unlink(missing_ok=True)
    return stages


def _first_deleted(run: RunFolder, kind: Kind, name: str) -> str | None:
    """The first stage to delete; a round after one that loses its policy loses all it sampled."""
    first, number = _first_stage(run, kind, name), _round(run.path)
    if first == "prompts" or number is None or number == 1:
        return first
    before = RunFolder(run.path.parent / f"round-{number - 1}")
    return "generate" if _loses_policy(before, kind, name) else first


def _loses_policy(run: RunFolder, kind: Kind, name: str) -> bool:
    """Whether the policy of a round is deleted, or has been."""
    first = _first_deleted(run, kind, name)
    return not run.stage("dpo").folder.exists() or (
        first is not None and "dpo" in _made_from(run, first)
    )


def _round(run: Path) -> int | None:
    """Which round the run is; None where it is none."""
    match = _ROUND.fullmatch(run.name)
    return int(match[1]) if match and (run.parent / CONFIG_COPY).exists() else None


def _first_stage(run: RunFolder, kind: Kind, name: str) -> str | None:
    """The first stage that holds such a thing; a gold question's prompt is in the labels alone."""
    if kind == "annotator":
        return "label"
    if _has_prompt(run.stage("prompts").files(), "id", name):
        return "prompts"
    labels = run.stage("label")
    answers = [*labels.files(), *labels.files("gold")]
    return "label" if _has_prompt(answers, "prompt_id", name) else None


def _has_prompt(files: Iterable[Path], column: str, name: str) -> bool:
    tables = (pq.read_table(file, columns=[column]) for file in files)
    return any(name in table[column].to_pylist() for table in tables)


def _made_from(run: RunFolder, first: str) -> list[str]:
    """The stage and all in the run's folder that read from it, or from what does."""
    made = {first}
    for stage in UPSTREAM:
        if run.stage(stage).folder.exists() and not made.isdisjoint(_inputs(run, stage)):
            made.add(stage)
    return [stage for stage in UPSTREAM if stage in made and run.stage(stage).folder.exists()]


def _inputs(run: RunFolder, stage: str) -> set[str]:
    """The stages that this one read: those its manifest names, or else all that it may."""
    try:
        manifest = run.stage(stage).manifest()
    except ValueError:
        manifest = None
    return set(UPSTREAM[stage] if manifest is None else manifest.inputs)


def _known(plan: Plan, store: AnnotationStore, kind: Kind, name: str) -> bool:
    if content_hash(name) in store.forgotten(kind):
        return True
    if kind == "annotator":
        return any(item.annotator.name == name for item in store.judgements.read())
    asked = (prompt.id for prompt in plan.run.stage("prompts").read(Prompt))
    return name in asked or any(task.prompt.id == name for task in store.tasks.read())
