"""The road from people's answers, given in a live Argilla, to a policy.

Each step makes its stages as every run does and then yields its laws, so a road can be gone on with
at any step whose stages before it are there.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Literal

from pairwright.errors import CheckError
from pairwright.plan import Plan
from pairwright.progress import Progress, Silent
from pairwright.road import make
from pairwright.selftest.laws import (
    Law,
    as_far_as_it_goes,
    comparison,
    dataset_laws,
    gate_laws,
    token_laws,
    training_laws,
)
from pairwright.selftest.planted import Opinions, Planted, words
from pairwright.selftest.planted_panel import CRITERION, OVERLAP, PEOPLE, Asked, Panel, Said
from pairwright.selftest.planted_run import plant, planted_plan
from pairwright.stages.pipeline import Road
from schemas.configs import AggregateConfig, Method
from schemas.labels import LabelTask
from schemas.records import Judgement, PairProposal, PreferencePair, Ranking

Step = Literal["ask", "label", "aggregate", "pair", "validate", "export", "dpo"]
STEPS: tuple[Step, ...] = ("ask", "label", "aggregate", "pair", "validate", "export", "dpo")

METHODS: tuple[Method, ...] = ("dawid-skene", "mace", "bradley-terry", "majority")
"""The rankings of the last one go on down the road."""


class VotesRoad:
    """A run whose planted questions people answer on the labelling server of this process."""

    def __init__(
        self,
        inputs: Path,
        run: Path,
        kind: Literal["pairwise", "ranking"],
        planted: Sequence[Planted],
        progress: Progress,
        panel: Panel | None = None,
    ) -> None:
        """The annotations lie beside the run; `panel` is the one that has answered already."""
        sections = {
            "label": {
                "dataset": f"selftest {run.name}",
                "kind": kind,
                "workspaces": {"selftest": {"annotators": list(PEOPLE)}},
                "overlap": OVERLAP,
                "criteria": [CRITERION],
                "suggest": False,
                "annotations": str(run.with_name(f"{run.name}-annotations")),
            },
            "pair": {"strategy": "curation.pairs:AllPairs"},
        }
        self.plan = planted_plan(inputs, run, sections, planted)
        self.panel = panel
        self._planted = planted
        self._opinions = Opinions(planted)
        self._progress = progress
        self._asked = {item.prompt.id: words(item.prompt.message_dicts()) for item in planted}
        self._answers = {
            candidate.text_id: words(candidate.completion.message_dicts())
            for item in planted
            for candidate in item.candidates
        }

    def walk(self, since: Step = "ask", until: Step = "dpo") -> Iterator[Law]:
        """The laws of these steps, as far as the road can be gone."""
        steps = STEPS[STEPS.index(since) : STEPS.index(until) + 1]
        return as_far_as_it_goes(self._laws(steps), self._progress)

    def _laws(self, steps: Sequence[Step]) -> Iterator[Law]:
        laws: dict[Step, Callable[[], Iterator[Law]]] = {
            "ask": self._ask,
            "label": self._label,
            "aggregate": self._aggregate,
            "pair": self._pair,
            "validate": self._validate,
            "export": self._export,
            "dpo": self._dpo,
        }
        for step in steps:
            self._progress.line(f"selftest: votes, {self.plan.run.path.name}, {step}")
            yield from laws[step]()

    def _ask(self) -> Iterator[Law]:
        from curation.argilla.client import connect
        from curation.argilla.names import dataset_name

        plant(self.plan, self._planted)
        label = self.plan.config.label
        assert label is not None
        waited = [self._waits()]
        with connect(label) as client:
            panel = Panel(client, dataset_name(label.dataset), self._opinions)
            panel.sit_down()
            waited.append(self._waits())
            panel.come_back()
        self.panel = panel
        yield Law("the road waits until people have answered", sum(waited), len(waited))
        planted = {
            (self._asked[candidate.prompt_id], self._answers[candidate.text_id])
            for item in self._planted
            for candidate in item.candidates
        }
        same = planted & panel.shown
        yield Law("the page shows the planted words", len(same), len(planted | panel.shown))
        tasks = list(self.plan.annotations.tasks.read())
        yield from self._order_laws(tasks)

    def _label(self) -> Iterator[Law]:
        """What the store holds after the pull is what people said, no more and no less."""
        from curation.argilla.client import connect

        panel = self._answered()
        make(Road(self.plan, Silent()), "label")
        found = self._stored()
        right = sum(found.get(asked) == said for asked, said in panel.said.items())
        both = len(found.keys() | panel.said.keys())
        yield Law("a stored answer is what its person said", right, both)
        kept_out = len(panel.unsaid - found.keys())
        yield Law("no draft, discard or withdrawn answer counts", kept_out, len(panel.unsaid))
        label = self.plan.config.label
        assert label is not None
        with connect(label) as client:
            on_server = sum(
                client.get(f"/datasets/{found_id}/records", params={"limit": 1})["total"]
                for found_id in panel.datasets.values()
            )
        tasks = list(self.plan.annotations.tasks.read())
        yield Law("what is asked is on the server once", int(on_server == len(tasks)), 1)

    def _aggregate(self) -> Iterator[Law]:
        for method in METHODS:
            config = self.plan.config.model_copy(
                update={"aggregate": AggregateConfig(method=method)}
            )
            plan = Plan(config, self.plan.run)
            make(Road(plan, Silent()), "aggregate")
            rankings = {item.prompt_id: item for item in plan.run.stage("aggregate").read(Ranking)}
            yield from self._ranking_laws(rankings)
        self.plan = plan

    def _pair(self) -> Iterator[Law]:
        make(Road(self.plan, Silent()), "pair")
        pairs = list(self.plan.run.stage("pair").read(PairProposal))
        found = {comparison(pair) for pair in pairs}
        wanted = set(self._opinions.comparisons())
        yield Law("each planted winner is chosen over its loser", len(wanted & found), len(wanted))
        ties = set(self._opinions.ties())
        yield Law("no planted tie is a pair", len(ties - found), len(ties))
        yield Law("no other pair is made", len(found & wanted), len(pairs))
        known = sum(pair.p_chosen is not None and pair.p_chosen > 0.5 for pair in pairs)
        yield Law("a pair carries a posterior above one half", known, len(pairs))

    def _validate(self) -> Iterator[Law]:
        make(Road(self.plan, Silent()), "validate")
        pairs = list(self.plan.run.stage("validate").read(PreferencePair))
        found = {comparison(pair) for pair in pairs}
        wanted = set(self._opinions.comparisons())
        yield Law("each planted pair comes through the gate", len(found & wanted), len(wanted))
        yield from gate_laws(self.plan)

    def _export(self) -> Iterator[Law]:
        make(Road(self.plan, Silent()), "export")
        yield from dataset_laws(self.plan.run, self._opinions)

    def _dpo(self) -> Iterator[Law]:
        yield from token_laws(self.plan, self._opinions)
        make(Road(self.plan, Silent()), "dpo")
        yield from training_laws(self.plan, self._opinions)

    def _waits(self) -> bool:
        """Whether the stage asks people and then says that answers are missing."""
        try:
            make(Road(self.plan, Silent()), "label")
        except CheckError:
            return True
        return False

    def _answered(self) -> Panel:
        if self.panel is None:
            raise ValueError("nobody has answered yet; expected the step 'ask' before the others")
        return self.panel

    def _order_laws(self, tasks: Sequence[LabelTask]) -> Iterator[Law]:
        """Orders of the candidates as they were sampled; n answers have 2n in balance."""
        sampled = {
            candidate.text_id: index
            for item in self._planted
            for index, candidate in enumerate(item.candidates)
        }
        for dataset in self._answered().datasets:
            orders: Counter[tuple[int, ...]] = Counter()
            for task in tasks:
                if task.dataset == dataset:
                    places = [sampled[text_id] for text_id in task.shown]
                    orders[tuple(sorted(places).index(place) for place in places)] += 1
            count = len(next(iter(orders)))
            share = ceil(orders.total() / (2 if count == 2 else 2 * count))
            fair = max(orders.values()) <= share
            yield Law("no order of answers is shown more often than another", int(fair), 1)

    def _stored(self) -> dict[Asked, Said]:
        """People's latest submitted answers in the stage `label`, by words."""
        latest: dict[Asked, Judgement] = {}
        for item in self.plan.run.stage("label").read(Judgement):
            asked = Asked(
                item.annotator.name,
                item.question,
                self._asked[item.prompt_id],
                frozenset(self._answers[text_id] for text_id in item.candidates),
            )
            if asked not in latest or item.revision > latest[asked].revision:
                latest[asked] = item
        return {
            asked: Said(
                frozenset(
                    zip((self._answers[key] for key in item.candidates), item.ranks, strict=True)
                ),
                item.both_bad,
            )
            for asked, item in latest.items()
            if item.status == "submitted" and item.ranks is not None
        }

    def _ranking_laws(self, rankings: dict[str, Ranking]) -> Iterator[Law]:
        planted = {item.prompt.id: item.ranks for item in self._planted}
        right = 0
        for prompt_id, ranks in planted.items():
            found = rankings.get(prompt_id)
            if found is not None:
                right += dict(zip(found.candidates, found.ranks, strict=True)) == ranks
        yield Law("the votes rank the answers as planted", right, len(planted))
        above, seen = 0, 0
        for prompt_id, ranking in rankings.items():
            assert ranking.probabilities is not None
            for one, row in zip(ranking.candidates, ranking.probabilities, strict=True):
                for other, p_better in zip(ranking.candidates, row, strict=True):
                    if planted[prompt_id][one] < planted[prompt_id][other]:
                        seen += 1
                        above += p_better is not None and p_better > 0.5
        yield Law("a planted winner's posterior is above one half", above, seen)
