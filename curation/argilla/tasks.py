"""What is asked of whom: candidates become records, shared out among workspaces.

Nothing here talks to a server. The same input and seed give the same plan, records that were
planned before keep their workspace and order, and a longer input goes on where the last one ended.

What is not asked says why:

- TRUNCATED: a candidate was cut off at its token limit.
- SAME_TEXT: another candidate looks the same on the page and stands for this one.
- TOO_FEW_CANDIDATES: fewer than two candidates of a prompt are left.
- OVER_SIX: a ranking shows six answers; the prompt has more.
- ASKED_TWICE: the input holds the same prompt with the same answers more than once.
- NO_ROOM: every workspace has its quota.
- GOLD_ALSO_ASKED: a gold question's pair is asked about as a label, so it cannot measure.
- GOLD_NOT_RANKED: gold questions are pairs; no ranking of two is asked among which to hide them.
- TOO_LITTLE_GOLD: as many gold questions more would meet the wanted rate.
- ASKED_ELSEWHERE: it was asked in a workspace that the config no longer names.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from curation.argilla.names import ADJUDICATION, FOLLOW_UP
from curation.argilla.sharing import Ask, Known, Sharing, dataset_of
from curation.argilla.text import shown_answer
from schemas.configs import LabelConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, PreferencePair, Prompt, content_hash

MOST_SHOWN = 6


class WorkspaceLoad(NamedTuple):
    """What one group of annotators has to do in all of a plan, known records included."""

    workspace: str
    annotators: int
    records: int
    gold: int
    judgements: int
    """Answers wanted: each record counts as often as people answer it."""
    judgements_an_annotator: float
    hours: float
    """Of all its annotators together."""


class LabelPlan(NamedTuple):
    """Records to put before annotators."""

    config: LabelConfig
    tasks: list[LabelTask]
    """All, in the order in which they are sent."""
    new: list[LabelTask]
    """Those that were not planned before."""
    left_out: Counter[str]
    """What is not asked, by reason."""
    workspaces: list[WorkspaceLoad]

    @property
    def judgements(self) -> int:
        return sum(task.overlap for task in self.tasks)

    @property
    def hours(self) -> float:
        return self.judgements * self.config.seconds_an_answer / 3600


def plan_tasks(
    config: LabelConfig,
    items: Iterable[tuple[Prompt, Sequence[Candidate]]],
    gold: Sequence[PreferencePair],
    stored: Iterable[LabelTask],
    *,
    seed: int,
) -> LabelPlan:
    """The records that the config asks for, those stored before among them.

    Raises:
        ValueError: a workspace has fewer annotators than a record needs answers, or known records
            need another number of answers, or have another right one, than is said now.
    """
    check_overlap(config, config.overlap)
    left_out: Counter[str] = Counter()
    known = Known(stored)
    asks: list[Ask] = []
    for prompt, candidates in items:
        asks += _asks(config, prompt, candidates, known, left_out, seed)
    others = [
        ask for ask in asks if (dataset_of(config, len(ask.candidates)), ask.key) not in known.gold
    ]
    left_out["GOLD_ALSO_ASKED"] += len(asks) - len(others)
    golden = _gold_asks(config, gold, others, left_out, seed)
    _check_right_answers(config, golden, known)
    sharing = Sharing(config, known, seed)
    once: dict[tuple[str, ...], Ask] = {}
    for ask in others:
        once.setdefault(ask.key, ask)
    left_out["ASKED_TWICE"] += len(others) - len(once)
    # Known records keep their place before new ones ask for what is left of a quota.
    for ask in sorted(once.values(), key=lambda ask: ask.key not in known.asked):
        refusal = sharing.place(ask, mirrored=config.mirror)
        if refusal:
            left_out[refusal] += 1
    if config.gold is not None:
        sharing.mix_in(golden, config.gold.rate, left_out)
    plan = plan_of(config, sharing, left_out)
    for task in plan.tasks:
        if task.overlap != config.overlap:
            raise ValueError(
                f"label.overlap is {config.overlap}, but dataset '{task.dataset}' was planned with "
                f"{task.overlap} answers a record, which is fixed then; put it back (`pairwright "
                "label push --next` asks for more), or give label.dataset another name"
            )
    return plan


def check_overlap(config: LabelConfig, overlap: int) -> None:
    """Nothing, where the workspaces have people enough to complete a record.

    Raises:
        ValueError: one has too few, or `check_people` refuses them.
    """
    check_people(config)
    for name, group in config.workspaces.items():
        count = len(group.annotators)
        if count < overlap:
            raise ValueError(
                f"label.workspaces.{name} has {count} annotator{'s' if count > 1 else ''}, but "
                f"each record needs {overlap} answers; add annotators or lower label.overlap"
            )


def check_people(config: LabelConfig) -> None:
    """Nothing, where everybody named is one person who gets no more than the quota.

    Raises:
        ValueError: somebody is named twice where that breaks a promise, or a workspace has a name
            that follow-ups and adjudication give to theirs.
    """
    groups = {f"workspaces.{name}": group.annotators for name, group in config.workspaces.items()}
    for where, names in {**groups, "adjudicators": config.adjudicators}.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(
                f"label.{where} names '{twice[0]}' more than once; expected each person once, as "
                "a record needs the answers of different people"
            )
    for name in config.workspaces:
        if name.startswith((f"{ADJUDICATION}-", FOLLOW_UP)):
            raise ValueError(
                f"label.workspaces.{name}: names that begin with '{ADJUDICATION}-' or "
                f"'{FOLLOW_UP}' are kept for one person's records; give it another name"
            )
    for (one, first), (other, second) in combinations(config.workspaces.items(), 2):
        both = sorted(set(first.annotators) & set(second.annotators))
        if both and (first.quota is not None or second.quota is not None):
            raise ValueError(
                f"annotator '{both[0]}' is in label.workspaces.{one} and in {other}, so a quota "
                "cannot hold for one person; leave out both quotas, or name each person once"
            )


def _asks(
    config: LabelConfig,
    prompt: Prompt,
    candidates: Sequence[Candidate],
    known: Known,
    left_out: Counter[str],
    seed: int,
) -> list[Ask]:
    """What is asked about one prompt's candidates."""
    whole = [item for item in candidates if item.completion.finish_reason != "length"]
    left_out["TRUNCATED"] += len(candidates) - len(whole)
    by_look: dict[str, Candidate] = {}
    for candidate in whole:
        by_look.setdefault(shown_answer(candidate.completion), candidate)
    left_out["SAME_TEXT"] += len(whole) - len(by_look)
    distinct = list(by_look.values())
    if len(distinct) < 2:
        left_out["TOO_FEW_CANDIDATES"] += 1
        return []
    if config.kind == "ranking":
        if len(distinct) > MOST_SHOWN:
            left_out["OVER_SIX"] += len(distinct) - MOST_SHOWN
            chosen = sorted(distinct, key=lambda item: content_hash(seed, item.text_id))
            distinct = [item for item in distinct if item in chosen[:MOST_SHOWN]]
        return [Ask(prompt, tuple(distinct))]
    asks = [Ask(prompt, pair) for pair in combinations(distinct, 2)]
    if config.pairs_a_prompt is None:
        return asks
    # Pairs asked about before come first, so that a new candidate changes no earlier choice.
    order = sorted(asks, key=lambda ask: (ask.key not in known.asked, content_hash(seed, ask.key)))
    return order[: config.pairs_a_prompt]


def _gold_asks(
    config: LabelConfig,
    gold: Sequence[PreferencePair],
    asks: Sequence[Ask],
    left_out: Counter[str],
    seed: int,
) -> list[Ask]:
    """The gold questions as asks, the right answer first."""
    if config.gold is None:
        return []
    if config.kind == "ranking" and not any(len(ask.candidates) == 2 for ask in asks):
        left_out["GOLD_NOT_RANKED"] += len(gold)
        return []
    asked = {ask.key for ask in asks}
    golden: dict[tuple[str, ...], Ask] = {}
    for pair in sorted(gold, key=lambda pair: content_hash(seed, pair.id)):
        ask = Ask(pair.prompt, (pair.chosen, pair.rejected), gold=True)
        if ask.key in asked:
            left_out["GOLD_ALSO_ASKED"] += 1
        elif shown_answer(pair.chosen.completion) == shown_answer(pair.rejected.completion):
            left_out["SAME_TEXT"] += 1
        else:
            golden.setdefault(ask.key, ask)
    return list(golden.values())


def _check_right_answers(config: LabelConfig, golden: Iterable[Ask], known: Known) -> None:
    """Nothing, where the questions put before have the right answers that they have now.

    Raises:
        ValueError: one has not.
    """
    for ask in golden:
        for task in known.tasks(dataset_of(config, 2), False, ask).values():
            right = ask.candidates[0].text_id
            if task.expected is not None and task.expected[task.shown.index(right)] != 1:
                raise ValueError(
                    f"gold question about prompt '{ask.prompt.id}' was put with the other answer "
                    "as the right one, which is kept with it; take its row out of the gold file, "
                    "and nobody is measured by it"
                )


def plan_of(config: LabelConfig, sharing: Sharing, left_out: Counter[str]) -> LabelPlan:
    """The plan that holds everything placed."""
    placed = list(sharing.placed())
    tasks = [task for task, _ in placed]
    return LabelPlan(
        config=config,
        tasks=tasks,
        new=[task for task, is_new in placed if is_new],
        left_out=+left_out,
        workspaces=_loads(config, tasks),
    )


def _loads(config: LabelConfig, tasks: Sequence[LabelTask]) -> list[WorkspaceLoad]:
    loads = []
    for name, group in config.workspaces.items():
        here = [task for task in tasks if task.workspace == name]
        judgements = sum(task.overlap for task in here)
        loads.append(
            WorkspaceLoad(
                workspace=name,
                annotators=len(group.annotators),
                records=len(here),
                gold=sum(1 for task in here if task.purpose == "gold"),
                judgements=judgements,
                judgements_an_annotator=judgements / len(group.annotators),
                hours=judgements * config.seconds_an_answer / 3600,
            )
        )
    return loads
