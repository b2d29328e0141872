"""Sharing records out among workspaces, and balancing the orders they are shown in."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from curation.argilla.names import dataset_name
from schemas.configs import LabelConfig
from schemas.labels import LabelTask, Purpose
from schemas.records import Candidate, Prompt, content_hash


class Ask(NamedTuple):
    """Candidates to be shown together; the order is that of the input, which balance goes by."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    gold: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.prompt.id, *sorted(candidate.text_id for candidate in self.candidates))


class Known:
    """The tasks stored before, as plans look them up."""

    def __init__(self, stored: Iterable[LabelTask]) -> None:
        self._tasks: dict[tuple[str, bool, tuple[str, ...]], dict[str, LabelTask]] = {}
        self.records: Counter[str] = Counter()
        """By workspace, whatever the dataset: a quota is about people."""
        self.gold_records: Counter[tuple[str, str]] = Counter()
        """By workspace and dataset."""
        self.asked: set[tuple[str, ...]] = set()
        self.gold: set[tuple[str, tuple[str, ...]]] = set()
        """Dataset and key of gold questions."""
        for task in stored:
            key = (task.prompt.id, *sorted(task.shown))
            self._tasks.setdefault((task.dataset, task.mirrored, key), {})[task.workspace] = task
            self.records[task.workspace] += 1
            self.asked.add(key)
            if task.purpose == "gold":
                self.gold_records[task.workspace, task.dataset] += 1
                self.gold.add((task.dataset, key))

    def tasks(self, dataset: str, mirrored: bool, ask: Ask) -> dict[str, LabelTask]:
        """The tasks that ask just this, by workspace."""
        return self._tasks.get((dataset, mirrored, ask.key), {})


class Placed(NamedTuple):
    ask: Ask
    workspace: str
    mirrored: bool
    stored: LabelTask | None


Orders = dict[tuple[str, bool], Counter[tuple[int, ...]]]
"""How often each order was shown, in a dataset's gold questions and in its others."""


class Sharing:
    """Shares asks out among the workspaces, then gives each the order it is shown in."""

    def __init__(
        self,
        config: LabelConfig,
        known: Known,
        seed: int,
        *,
        purpose: Purpose = "label",
        suffix: str = "",
        overlap: int | None = None,
    ) -> None:
        self._config = config
        self._known = known
        self._seed = seed
        self._purpose = purpose
        self._suffix = suffix
        self._overlap = overlap or config.overlap
        self._load = Counter(known.records)
        self._labels: Counter[tuple[str, str]] = Counter()
        self._placed: list[Placed] = []

    def place(
        self, ask: Ask, *, mirrored: bool = False, workspaces: Collection[str] | None = None
    ) -> str | None:
        """Why no workspace takes the ask; None where the one with the least to do takes it.

        A mirrored ask is two records in one workspace.
        """
        dataset = self._dataset(ask)
        copies = (False, True) if mirrored else (False,)
        stored = [self._known.tasks(dataset, copy, ask) for copy in copies]
        names = self._config.workspaces if workspaces is None else workspaces
        if any(stored):
            names = [name for name in self._config.workspaces if any(name in at for at in stored)]
            if not names:
                return "ASKED_ELSEWHERE"
        fits = [
            name
            for name in names
            if self._fits(name, dataset, sum(1 for at in stored if name not in at))
        ]
        if not fits:
            return "NO_ROOM"
        workspace = min(fits, key=self._busy)
        for copy, at in zip(copies, stored, strict=True):
            self._placed.append(Placed(ask, workspace, copy, at.get(workspace)))
            self._labels[workspace, dataset] += 1
            self._load[workspace] += workspace not in at
        return None

    def mix_in(self, golden: Sequence[Ask], rate: float, left_out: Counter[str]) -> None:
        """Gold questions up to their share of each workspace's records."""
        dataset = dataset_of(self._config, 2)
        for number, workspace in enumerate(self._config.workspaces):
            stored, fresh = [], []
            for ask in golden:
                task = self._known.tasks(dataset, False, ask).get(workspace)
                if task is None:
                    fresh.append(ask)
                else:
                    stored.append(Placed(ask, workspace, False, task))
            wanted = gold_count(self._labels[workspace, dataset], rate)
            wanted -= self._known.gold_records[workspace, dataset]
            # Each workspace begins elsewhere in the gold, so that few questions are in two.
            start = number * len(fresh) // len(self._config.workspaces)
            taken = [*fresh[start:], *fresh[:start]][: max(0, wanted)]
            left_out["TOO_LITTLE_GOLD"] += max(0, wanted - len(taken))
            self._placed += stored
            self._placed += [Placed(ask, workspace, False, None) for ask in taken]

    def placed(self) -> Iterator[tuple[LabelTask, bool]]:
        """The task of everything placed and whether it is new, gold among the others by chance."""
        overall: Orders = defaultdict(Counter)
        for workspace in self._config.workspaces:
            here = [item for item in self._placed if item.workspace == workspace]
            tasks = self._in_order(here, overall)
            for index in sorted(range(len(here)), key=lambda index: self._turn(here[index])):
                yield tasks[index], here[index].stored is None

    def _in_order(self, here: Sequence[Placed], overall: Orders) -> list[LabelTask]:
        """One task for each thing placed in a workspace; the orders so far go into `overall`."""
        made: dict[int, LabelTask] = {}
        own: Orders = defaultdict(Counter)
        shown: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}
        first_known = sorted(
            range(len(here)), key=lambda at: (here[at].stored is None, self._turn(here[at]))
        )
        for index in first_known:
            ask, _, mirrored, stored = here[index]
            dataset = self._dataset(ask)
            group = (dataset, ask.gold)
            if stored is not None:
                order = _order_of(ask, stored)
            elif mirrored:
                order = shown[dataset, ask.key][::-1]
            else:
                order = self._next_order(ask, own[group], overall[group])
            made[index] = stored or self._task(here[index], order)
            shown[dataset, ask.key] = order
            own[group][order] += 1
            overall[group][order] += 1
        return [made[index] for index in range(len(here))]

    def _next_order(
        self, ask: Ask, own: Counter[tuple[int, ...]], overall: Counter[tuple[int, ...]]
    ) -> tuple[int, ...]:
        """The order shown least so far, in the workspace first; among equals chance decides."""
        return min(
            _orders(len(ask.candidates)),
            key=lambda order: (
                own[order],
                overall[order],
                content_hash(self._seed, ask.key, order),
            ),
        )

    def _task(self, item: Placed, order: tuple[int, ...]) -> LabelTask:
        gold = item.ask.gold
        return LabelTask(
            dataset=self._dataset(item.ask),
            workspace=item.workspace,
            prompt=item.ask.prompt,
            candidates=tuple(item.ask.candidates[index] for index in order),
            kind="pairwise" if self._suffix else self._config.kind,
            purpose="gold" if gold else self._purpose,
            expected=tuple(index + 1 for index in order) if gold else None,
            mirrored=item.mirrored,
            overlap=self._overlap,
            assisted=self._config.assisted,
            follows=dataset_name(self._config.dataset) if self._suffix else None,
        )

    def _turn(self, item: Placed) -> tuple[int, str]:
        """When a record comes: by chance, a mirrored one as far behind its twin as can be."""
        key = content_hash(self._seed, item.ask.key)
        late = item.mirrored or (item.ask.gold and self._config.mirror and int(key[0], 16) % 2 == 1)
        return (int(late), key)

    def _dataset(self, ask: Ask) -> str:
        if self._suffix:
            return dataset_name(self._config.dataset, suffix=self._suffix)
        return dataset_of(self._config, len(ask.candidates))

    def _fits(self, workspace: str, dataset: str, records: int) -> bool:
        """Whether so many records more, with the gold questions due then, are in the quota."""
        quota = self._config.workspaces[workspace].quota
        if quota is None or records == 0:
            return True
        gold = 0
        if self._config.gold is not None and not self._suffix:
            due = gold_count(self._labels[workspace, dataset] + records, self._config.gold.rate)
            gold = max(0, due - self._known.gold_records[workspace, dataset])
        return self._load[workspace] + records + gold <= quota

    def _busy(self, workspace: str) -> float:
        return self._load[workspace] / len(self._config.workspaces[workspace].annotators)


def dataset_of(config: LabelConfig, candidates: int) -> str:
    """The dataset that so many candidates shown together belong to."""
    ranked = candidates if config.kind == "ranking" else None
    return dataset_name(config.dataset, ranked=ranked)


def gold_count(labels: int, rate: float) -> int:
    """How many gold questions among that many others make up the rate."""
    return round(labels * rate / (1 - rate))


def _orders(count: int) -> list[tuple[int, ...]]:
    """Orders that put each candidate on each place equally often: the turns of two rows."""
    row = tuple(range(count))
    rows = [row] if count == 2 else [row, row[::-1]]
    return [(*row[turn:], *row[:turn]) for row in rows for turn in range(count)]


def _order_of(ask: Ask, task: LabelTask) -> tuple[int, ...]:
    places = {candidate.text_id: index for index, candidate in enumerate(ask.candidates)}
    return tuple(places[text_id] for text_id in task.shown)
