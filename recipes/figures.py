"""Writes docs/recipes.md from the recipes and the reports kept of their runs.

    python recipes/figures.py

A kept report is a run's `report.json`, at `docs/recipes/<goal>-<stage>-seed-N.json`. What a recipe
teaches, and how to read its figures, stands in the comment that opens its file.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dpo.statistics import FEW_PROMPTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
KEPT = ROOT / "docs" / "recipes"

TITLES = {
    "identity": "Identity",
    "multilingual": "Multilingual",
    "instruction-following": "Instruction following",
    "safety": "Safety",
    "online-rl": "Online RL",
}
"""The goals, in the order in which the page tells of them."""

MANY_KINDS = 12
"""With more kinds of prompt than this, only those that clearly changed in some seed are listed."""

_KEPT_NAME = re.compile(r"(?P<goal>.+)-(?P<stage>[a-z]+)-seed-(?P<seed>\d+)\.json")
_PLAIN = ("better", "unclear", "worse")
"""Verdicts that say no more than the gain's interval."""
_HOW_TO_READ = "How to read it: "
_UNTESTED = "# untested: minutes on the real model"
"""What the tests of the site's commands are told."""

_INTRODUCTION = f"""\
# Recipes

Each recipe is one config, run for real on the bundled SmolLM2-135M-Instruct. Held-out prompts \
are answered before and after, decoded alike. Intervals are 95%, paired by prompt; a change is \
clear, and in bold, where its interval leaves out zero and rests on {FEW_PROMPTS} prompts or more. \
Commands run in the project's folder; `python recipes/figures.py` writes this page from the \
recipes and from the `report.json` kept of each run, which its seed links to.
"""


class Recipe(NamedTuple):
    goal: str
    stage: str
    reports: dict[int, dict[str, Any]]
    """By seed."""

    @property
    def file(self) -> str:
        return f"recipes/{self.goal}/{self.stage}.yaml"

    @property
    def title(self) -> str:
        return f"{TITLES.get(self.goal, self.goal)}: {self.stage.upper()}"

    @property
    def in_words(self) -> str:
        """What a reader may conclude: the gains, and all that speaks against them."""
        evaluations = self.evaluations
        return in_words(self.gains) + fallen(evaluations) + doubted(list(self.reports.values()))

    @property
    def gains(self) -> dict[int, dict[str, Any]]:
        return {seed: r["evaluation"]["reward_gain"] for seed, r in self.reports.items()}

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        return [report["evaluation"] for report in self.reports.values()]


class Comment(NamedTuple):
    """What the comment that opens a recipe says, a paragraph an item."""

    taught: list[str]
    how_to_read: list[str]


def page(kept: Path = KEPT) -> str:
    """The whole page, about the recipes that a report is kept of."""
    recipes = read_recipes(kept)
    parts = [_INTRODUCTION, _overview(recipes), *map(_section, recipes)]
    return "\n".join(parts)


def read_recipes(kept: Path) -> list[Recipe]:
    """The recipes with their reports, goals in the order of `TITLES`.

    Raises:
        ValueError: a file's name is not that of a kept report, or not that of its run's seed.
    """
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for file in sorted(kept.glob("*.json")):
        match = _KEPT_NAME.fullmatch(file.name)
        if match is None:
            raise ValueError(
                f"'{file.name}' is no kept report; expected <goal>-<stage>-seed-N.json"
            )
        report, seed = json.loads(file.read_text("utf-8")), int(match["seed"])
        seeds = {stage["seed"] for stage in report["provenance"].values()} - {None}
        if seeds != {seed}:
            raise ValueError(f"'{file.name}' is of a run with the seed {sorted(seeds)}")
        found.setdefault((match["goal"], match["stage"]), {})[seed] = report
    order = [*TITLES, *sorted({goal for goal, _ in found} - set(TITLES))]
    recipes = [Recipe(*key, dict(sorted(reports.items()))) for key, reports in found.items()]
    return sorted(recipes, key=lambda recipe: (order.index(recipe.goal), recipe.stage))


def comment(recipe: Path) -> Comment:
    """The comment that opens a recipe's file."""
    lines: list[str] = []
    for line in recipe.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    paragraphs = [" ".join(part.split("\n")) for part in "\n".join(lines).split("\n\n")]
    start = next((i for i, p in enumerate(paragraphs) if p.startswith(_HOW_TO_READ)), None)
    return Comment(paragraphs[:start], [] if start is None else paragraphs[start:])


def in_words(gains: Mapping[int, Mapping[str, Any]]) -> str:
    """What the intervals of the gains say, by seed."""
    clear = [seed for seed, gain in gains.items() if gain["low"] is not None and gain["low"] > 0]
    worse = [seed for seed, gain in gains.items() if gain["high"] is not None and gain["high"] < 0]
    neither = [seed for seed in gains if seed not in (*clear, *worse)]
    said = []
    if clear:
        said.append(f"a clear gain in {_seeds(clear, len(gains))}")
    if neither:
        said.append(f"no clear gain in {_seeds(neither, len(gains))}: the interval includes zero")
    if worse:
        said.append(f"a clear loss in {_seeds(worse, len(gains))}")
    return "; ".join(said)


def fallen(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Which kinds of prompt clearly lost in some seed, to be told beside any gain."""
    kinds = {
        item["kind"]: None
        for evaluation in evaluations
        for item in evaluation["by_kind"]
        if _clear(item["gain"]) and item["gain"]["high"] < 0
    }
    return f"; a clear loss in {', '.join(f'`{kind}`' for kind in kinds)}" if kinds else ""


def doubted(reports: Sequence[Mapping[str, Any]]) -> str:
    """The headlines of reports that say why a gain may be none."""
    verdicts = [report["verdict"] for report in reports]
    doubts = {v["headline"]: None for v in verdicts if v["outcome"] not in _PLAIN}
    return "".join(f"; the report says “{doubt.rstrip('.')}”" for doubt in doubts)


def _seeds(some: Sequence[int], total: int) -> str:
    if len(some) == total:
        return "the one seed" if total == 1 else f"all {total} seeds"
    return f"{len(some)} of {total} seeds ({', '.join(map(str, some))})"


def _overview(recipes: Sequence[Recipe]) -> str:
    rows = [
        f"| [{recipe.title}](#{_anchor(recipe.title)}) | "
        + ", ".join(_signed(e["reward_gain"]["mean"]) for e in recipe.evaluations)
        + f" | {recipe.in_words} |"
        for recipe in recipes
    ]
    return "\n".join(["| recipe | gain, by seed | in words |", "|---|---|---|", *rows, ""])


def _section(recipe: Recipe) -> str:
    said = comment(ROOT / recipe.file)
    seeds = list(recipe.reports)
    run = f"runs/{recipe.goal}-{recipe.stage}"
    command = f"pairwright run {recipe.file} --run {run}-{seeds[0]} seed={seeds[0]}"
    links = " | ".join(
        f"[seed {seed}](recipes/{recipe.goal}-{recipe.stage}-seed-{seed}.json)" for seed in seeds
    )
    head = ["| | " + links + " |", "|---" * (len(seeds) + 1) + "|"]
    parts = [
        f"## {recipe.title}",
        *said.taught,
        f"```sh\n{command}   {_UNTESTED}\n```",
        "\n".join([*head, *_rows(recipe)]),
        f"In words: {recipe.in_words}.",
        *said.how_to_read,
    ]
    return "\n\n".join(parts) + "\n"


def _rows(recipe: Recipe) -> list[str]:
    """The table's rows, of which each seed fills a column."""
    reports = list(recipe.reports.values())

    def row(name: str, cell: Callable[[dict[str, Any]], str]) -> str:
        return f"| {name} | " + " | ".join(cell(report) for report in reports) + " |"

    def of_evaluation(name: str, cell: Callable[[dict[str, Any]], str]) -> str:
        return row(name, lambda report: cell(report["evaluation"]))

    names = list(recipe.evaluations[0]["components"])
    components = [
        of_evaluation(f"`{name}`", partial(_component, name=name))
        for name in names
        if len(names) > 1
    ]
    kinds = [
        of_evaluation(f"&nbsp;&nbsp;{kind}", partial(_kind, kind=kind))
        for kind in _kinds(recipe.evaluations)
    ]
    return [
        *_amounts(reports, row),
        of_evaluation("held-out prompts, answers to each", lambda e: f"{e['prompts']}, {e['n']}"),
        of_evaluation(
            "reward before, after",
            lambda e: f"{_number(e['reward_before'])}, {_number(e['reward_after'])}",
        ),
        of_evaluation("gain", lambda e: f"{_interval(e['reward_gain'])}"),
        *components,
        of_evaluation("win rate", _win_rate),
        *([row(head, lambda _: "")] if (head := _head_of_kinds(recipe.evaluations, kinds)) else []),
        *kinds,
        of_evaluation("tokens an answer", lambda e: _tokens(e["length"])),
        of_evaluation(
            "gain at unchanged length", lambda e: _interval(e["length_control"]["intercept"])
        ),
        of_evaluation(
            "KL to the SFT model, nats a token", lambda e: _number(e["kl_per_token"]["mean"], 3)
        ),
        *_alarms(reports, row),
        row("headline", lambda report: report["verdict"]["headline"]),
    ]


def _amounts(reports: list[dict[str, Any]], row: Callable[..., str]) -> list[str]:
    """What the run made on the way: pairs, or rollouts."""
    if reports[0].get("online") is None:
        return [
            row(
                "prompts, candidates, pairs (quarantined)",
                lambda r: "{prompts}, {candidates}, {pairs} ({quarantined})".format(**r["funnel"]),
            )
        ]
    return [
        row(
            "prompts, rollouts, tokens sampled",
            lambda r: (
                f"{r['funnel']['prompts']}, {r['funnel']['rollouts']}, "
                f"{r['online']['tokens_sampled']:,}"
            ),
        )
    ]


def _alarms(reports: list[dict[str, Any]], row: Callable[..., str]) -> list[str]:
    """What online training noticed about itself."""
    if reports[0].get("online") is None:
        return []
    return [row("alarms", lambda r: "; ".join(r["online"]["health"]) or "none")]


def _kinds(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of prompt to list, each once."""
    kinds = {item["kind"]: False for e in evaluations for item in e["by_kind"]}
    for item in (item for e in evaluations for item in e["by_kind"]):
        kinds[item["kind"]] |= _clear(item["gain"])
    return [kind for kind, clear in kinds.items() if clear or len(kinds) <= MANY_KINDS]


def _head_of_kinds(evaluations: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> str:
    total = len({item["kind"] for e in evaluations for item in e["by_kind"]})
    if len(shown) == total:
        return "reward by kind of prompt" if shown else ""
    which = "those" if shown else "none"
    return f"reward by kind of prompt: of {total} kinds, {which} that clearly changed"


def _kind(evaluation: Mapping[str, Any], kind: str) -> str:
    item = next((item for item in evaluation["by_kind"] if item["kind"] == kind), None)
    if item is None:
        return "not asked"
    change = f"{_number(item['before'])} to {_number(item['after'])}, {_interval(item['gain'])}"
    kl = (item.get("kl_per_token") or {}).get("mean")
    return change if kl is None else f"{change}, KL {_number(kl, 3)}"


def _component(evaluation: Mapping[str, Any], name: str) -> str:
    return _change(evaluation["components"][name])


def _change(item: Mapping[str, Any]) -> str:
    moved = f"{_number(item['before'])} to {_number(item['after'])}"
    return f"{moved}, {_interval(item['change'])}"


def _tokens(length: Mapping[str, Any]) -> str:
    return f"{_number(length['before'], 0)} to {_number(length['after'], 0)}"


def _interval(change: Mapping[str, Any]) -> str:
    """A change with its interval, in bold where that leaves out zero."""
    low, high = change["low"], change["high"]
    if low is None:
        return _signed(change["mean"])
    written = f"{_signed(change['mean'])} [{_signed(low)}, {_signed(high)}]"
    return f"**{written}**" if _clear(change) else written


def _clear(change: Mapping[str, Any]) -> bool:
    """Whether the interval leaves out zero, and rests on prompts enough to be trusted."""
    low, high = change["low"], change["high"]
    return low is not None and (low > 0 or high < 0) and change["n"] >= FEW_PROMPTS


def _win_rate(evaluation: Mapping[str, Any]) -> str:
    rate = evaluation["win_rate"]
    low, high = rate["low"], rate["high"]
    between = "" if low is None else f" [{_number(low)}, {_number(high)}]"
    return _number(rate["mean"]) + between


def _number(value: float | None, digits: int = 2) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.2f}"


def _anchor(title: str) -> str:
    """How a title is linked to on its page."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
