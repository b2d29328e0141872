"""Pairs asked once more: of a person who has not answered about them, or of an adjudicator.

Argilla shows a record to every member of its workspace. So who alone may answer has a workspace
of their own, and the plan's config names such workspaces.

What is not asked says why, besides the reasons of `tasks`:

- NOBODY_NEW: everybody has answered about the pair, or been asked to in person.
- OWN_DISPUTE: every adjudicator has voted on the pair.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from curation.argilla.names import ADJUDICATION, FOLLOW_UP
from curation.argilla.sharing import Ask, Known, Sharing
from curation.argilla.tasks import LabelPlan, plan_of
from curation.posteriors import Pair
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask, Purpose
from schemas.records import Candidate, Prompt

AnsweredBy = Mapping[Pair, Collection[str]]
"""Annotators by (prompt id, lesser `text_id`, greater `text_id`), as votes name a pair."""


def follow_up_tasks(
    config: LabelConfig,
    pairs: Sequence[tuple[Prompt, Candidate, Candidate]],
    answered_by: AnsweredBy,
    stored: Sequence[LabelTask],
    *,
    seed: int,
    number: int,
    excluded: Collection[str] = (),
) -> LabelPlan:
    """Each pair for one annotator to whom it is new, in the workspace `follow-up-<annotator>`.

    The dataset is named like the first with `next-<number>` at its end, and its records say which
    dataset they follow. Who is excluded is asked nothing.
    """
    return _personal_plan(
        config,
        {name: f"{FOLLOW_UP}{name}" for name in _annotators(config, excluded)},
        pairs,
        _seen(answered_by, stored),
        stored,
        seed=seed,
        purpose="label",
        suffix=f"next-{number}",
        nobody="NOBODY_NEW",
    )


def used_up(
    config: LabelConfig,
    pairs: Iterable[Pair],
    answered_by: AnsweredBy,
    stored: Iterable[LabelTask],
    *,
    excluded: Collection[str] = (),
) -> list[Pair]:
    """Those of the pairs that a follow-up can ask nobody about."""
    seen, people = _seen(answered_by, stored), _annotators(config, excluded)
    return [pair for pair in pairs if seen[pair].issuperset(people)]


def adjudication_tasks(
    config: LabelConfig,
    pairs: Sequence[tuple[Prompt, Candidate, Candidate]],
    answered_by: AnsweredBy,
    stored: Iterable[LabelTask],
    *,
    seed: int,
    excluded: Collection[str] = (),
) -> LabelPlan:
    """Each pair for one adjudicator, none of whom rules on a dispute of her own.

    It is in the workspace `adjudication-<adjudicator>`. What was asked of somebody who is no
    adjudicator any more is asked of another.

    Raises:
        ValueError: every adjudicator is excluded.
    """
    people = [name for name in config.adjudicators if name not in excluded]
    if not people:
        raise ValueError(
            f"label.adjudicators: every one of {', '.join(config.adjudicators)} is excluded; "
            "expected one whose answers count"
        )
    rooms = {name: f"{ADJUDICATION}-{name}" for name in people}
    return _personal_plan(
        config,
        rooms,
        pairs,
        answered_by,
        [task for task in stored if task.workspace in rooms.values()],
        seed=seed,
        purpose="adjudication",
        suffix=ADJUDICATION,
        nobody="OWN_DISPUTE",
    )


def _annotators(config: LabelConfig, excluded: Collection[str]) -> list[str]:
    groups = config.workspaces.values()
    names = dict.fromkeys(name for group in groups for name in group.annotators)
    return [name for name in names if name not in excluded]


def _seen(answered_by: AnsweredBy, stored: Iterable[LabelTask]) -> dict[Pair, set[str]]:
    """Who has answered about each pair, or was asked to in person."""
    seen: dict[Pair, set[str]] = defaultdict(set)
    for pair, names in answered_by.items():
        seen[pair].update(names)
    for task in stored:
        if task.workspace.startswith(FOLLOW_UP):
            for left, right in combinations(sorted(task.shown), 2):
                seen[task.prompt.id, left, right].add(task.workspace.removeprefix(FOLLOW_UP))
    return seen


def _personal_plan(
    config: LabelConfig,
    rooms: Mapping[str, str],
    pairs: Iterable[tuple[Prompt, Candidate, Candidate]],
    seen: AnsweredBy,
    stored: Iterable[LabelTask],
    *,
    seed: int,
    purpose: Purpose,
    suffix: str,
    nobody: str,
) -> LabelPlan:
    """Each pair in the workspace of one who has not seen it; `rooms` are these by person.

    The plan's config has the workspaces that are needed. `nobody` is why a pair is left out of
    which there is none.
    """
    workspaces = {room: WorkspaceConfig(annotators=(name,)) for name, room in rooms.items()}
    sharing = Sharing(
        config.model_copy(update={"workspaces": workspaces}),
        Known(stored),
        seed,
        purpose=purpose,
        suffix=suffix,
        overlap=1,
    )
    asks = []
    for prompt, first, second in pairs:
        ask = Ask(prompt, (first, second))
        names = seen.get((ask.key[0], ask.key[1], ask.key[2]), ())
        asks.append((ask, [room for name, room in rooms.items() if name not in names]))
    left_out: Counter[str] = Counter()
    # What fewest can take comes first, so that the load is even.
    for ask, open_rooms in sorted(asks, key=lambda asked: len(asked[1])):
        refusal = sharing.place(ask, workspaces=open_rooms) if open_rooms else nobody
        if refusal:
            left_out[refusal] += 1
    used = {task.workspace for task, _ in sharing.placed()}
    needed = {room: group for room, group in workspaces.items() if room in used}
    return plan_of(config.model_copy(update={"workspaces": needed}), sharing, left_out)
