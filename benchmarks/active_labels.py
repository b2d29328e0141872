"""Does asking about the right pairs beat asking at random? Real votes, replayed.

    python benchmarks/active_labels.py --data DIR [--repeats 5]

DIR holds ukpconvarg1_votes.jsonl and llmfao_votes.jsonl. Each pair starts with one of its votes.
Then labels are bought in steps, for the pairs that `next_pairs` names, for pairs drawn at random,
or for those with the fewest votes; a label is the next of the pair's own votes, in an order drawn
anew each repeat, and a pair whose votes are used up cannot be asked. Printed at each budget: the
share of majority verdicts that equal the reference, and the mean log loss of the posterior on pairs
whose reference is no tie. References: for UKP the label that its authors published (MACE over all
votes), for LLMFAO the majority of all of a pair's votes; both were made from the very votes
replayed here, so all ways of asking end at one point and only the road there tells.
"""

import argparse
import json
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.next_labels import next_pairs
from curation.posteriors import Pair, Winner, canonical
from curation.votes import Vote
from curation.voting import aggregate_votes

STEPS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
"""Votes a pair, on average, at which figures are taken."""

Chooser = Callable[[Sequence[Vote], int, set[Pair], random.Random], list[Pair]]


def ukp(folder: Path) -> tuple[list[Vote], dict[Pair, Winner]]:
    side: dict[str, Winner] = {"a1": "left", "a2": "right", "equal": "tie"}
    votes, reference = [], {}
    for line in (folder / "ukpconvarg1_votes.jsonl").read_text().splitlines():
        row = json.loads(line)
        names = (row["topic"], row["a1"], row["a2"])
        votes += [Vote(*names, annotator=who, winner=side[said]) for who, said in row["votes"]]
        if row["mace_gold"]:
            gold = canonical(Vote(*names, annotator="", winner=side[row["mace_gold"]]))
            reference[gold.pair] = gold.winner
    return votes, reference


def llmfao(folder: Path) -> tuple[list[Vote], dict[Pair, Winner]]:
    rows = map(json.loads, (folder / "llmfao_votes.jsonl").read_text().splitlines())
    votes = [
        Vote(str(row["prompt"]), row["left"], row["right"], str(row["annotator"]), row["winner"])
        for row in rows
    ]
    verdicts = aggregate_votes(votes, "majority").pairs
    return votes, {verdict.pair: verdict.winner for verdict in verdicts}


def by_gain(votes: Sequence[Vote], n: int, used_up: set[Pair], rng: random.Random) -> list[Pair]:
    return [item.pair for item in next_pairs(votes, n, skip=used_up)]


def at_random(votes: Sequence[Vote], n: int, used_up: set[Pair], rng: random.Random) -> list[Pair]:
    pairs = sorted({vote.pair for vote in votes} - used_up)
    return rng.sample(pairs, min(n, len(pairs)))


def fewest(votes: Sequence[Vote], n: int, used_up: set[Pair], rng: random.Random) -> list[Pair]:
    counts: dict[Pair, int] = defaultdict(int)
    for vote in votes:
        counts[vote.pair] += 1
    pairs = sorted(set(counts) - used_up)
    rng.shuffle(pairs)
    return sorted(pairs, key=counts.__getitem__)[:n]


CHOOSERS: dict[str, Chooser] = {"next_pairs": by_gain, "random": at_random, "fewest": fewest}


def replay(
    votes: Iterable[Vote], reference: dict[Pair, Winner], choose: Chooser, seed: int
) -> list[tuple[float, float]]:
    """Accuracy and log loss at each of the steps."""
    rng = random.Random(seed)
    left: dict[Pair, list[Vote]] = defaultdict(list)
    for vote in map(canonical, votes):
        left[vote.pair].append(vote)
    for own in left.values():
        rng.shuffle(own)
    bought = [own.pop() for own in left.values()]
    figures = []
    for step in STEPS:
        budget = round(step * len(left))
        while len(bought) < budget:
            used_up = {pair for pair, own in left.items() if not own}
            n = min(budget - len(bought), max(1, len(left) // 20))
            asked = choose(bought, n, used_up, rng)
            if not asked:
                break
            bought += [left[pair].pop() for pair in asked]
        figures.append(scored(bought, reference))
    return figures


def scored(votes: Sequence[Vote], reference: dict[Pair, Winner]) -> tuple[float, float]:
    verdicts = [item for item in aggregate_votes(votes).pairs if item.pair in reference]
    right = statistics.fmean(item.winner == reference[item.pair] for item in verdicts)
    losses = [
        -math.log(item.p_left if reference[item.pair] == "left" else 1 - item.p_left)
        for item in verdicts
        if reference[item.pair] != "tie"
    ]
    return right, statistics.fmean(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description="Active against random order of labels.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for name, load in (("UKP", ukp), ("LLMFAO", llmfao)):
        votes, reference = load(options.data)
        table = Table(title=f"{name}: accuracy / log loss, mean of {options.repeats} repeats")
        for title in ("votes a pair", *CHOOSERS):
            table.add_column(title, justify="right")
        runs = {
            title: [replay(votes, reference, choose, seed) for seed in range(options.repeats)]
            for title, choose in CHOOSERS.items()
        }
        for at, step in enumerate(STEPS):
            cells = []
            for figures in runs.values():
                right, loss = zip(*(run[at] for run in figures), strict=True)
                cells.append(f"{statistics.fmean(right):.3f} / {statistics.fmean(loss):.3f}")
            table.add_row(f"{step:.2f}", *cells)
        Console().print(table)


if __name__ == "__main__":
    main()
