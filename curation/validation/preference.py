"""Checks on the preference itself, of one row and among the rows of one prompt."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from curation.formats.rated import is_number
from curation.validation.row import Failure, RawRow, rated_margin, rating_difference


class Edge(NamedTuple):
    """A row as an edge of its prompt's preference graph, between two `text_id`s."""

    row_id: str
    chosen: str
    rejected: str


def rating_count(row: RawRow) -> Failure | None:
    """There are not as many ratings as answers."""
    if row.ratings is None or len(row.ratings) == 2:
        return None
    return Failure(
        "RATING_COUNT_MISMATCH",
        f"the row has 2 answers but {len(row.ratings)} ratings; expected one rating an answer",
    )


def bad_number(row: RawRow) -> Failure | None:
    """A rating, margin, weight or probability is not a number that it could be."""
    ratings = row.ratings or []
    numbers = [*(("rating", rating) for rating in ratings), ("weight", row.weight)]
    if row.margin is not None:
        numbers.append(("margin", row.margin))
    if row.p_chosen is not None:
        numbers.append(("p_chosen", row.p_chosen))
    for name, value in numbers:
        if not is_number(value):
            return Failure("BAD_NUMBER", f"{name} is {value!r}; expected a finite number")
    if row.ratings is not None and not is_number(rating_difference(row)):
        return Failure("BAD_NUMBER", "the ratings lie further apart than a number can say")
    if row.weight <= 0:
        return Failure("BAD_NUMBER", f"weight is {row.weight}; expected more than 0")
    if row.p_chosen is not None and not 0 <= row.p_chosen <= 1:
        return Failure("BAD_NUMBER", f"p_chosen is {row.p_chosen}; expected 0 to 1")
    return None


def reversed_sides(row: RawRow) -> Failure | None:
    """What is known of the two sides says that rejected is the better one."""
    lowest = min(_margins(row), default=0)
    if lowest < 0:
        found = f"the margin is {lowest:g}"
    elif row.p_chosen is not None and row.p_chosen < 0.5:
        found = f"p_chosen is {row.p_chosen:g}"
    else:
        return None
    return Failure("REVERSED", f"{found}: rejected is the better side; expected chosen to be")


def tie(row: RawRow) -> Failure | None:
    """The two sides are rated alike, or a coin could tell them apart."""
    if 0 in _margins(row):
        return Failure("TIE", "chosen and rejected are rated alike; a tie is no preference")
    if row.p_chosen == 0.5:
        return Failure("TIE", "p_chosen is 0.5; a tie is no preference")
    return None


def below_margin(row: RawRow, least: float) -> Failure | None:
    """The margin is known and under the least; an unknown one passes."""
    margin = rated_margin(row)
    if margin is None or margin >= least:
        return None
    return Failure(
        "BELOW_MARGIN", f"the margin is {margin:g}; the gate asks for {least:g} (min_margin)"
    )


def truncated_candidate(row: RawRow) -> Failure | None:
    """A side was cut off while it was sampled; unknown for rows of a file."""
    for name, finish in (("chosen", row.chosen_finish), ("rejected", row.rejected_finish)):
        if finish == "length":
            return Failure(
                "TRUNCATED_CANDIDATE",
                f"{name} was cut off at the sampling limit; expected a whole answer "
                "(raise generate.max_new_tokens)",
            )
    return None


def contradictions(edges: Mapping[int, Edge]) -> dict[int, Failure]:
    """Rows of one prompt that prefer x to y where others prefer y to x; all of them, by key."""
    by_sides: dict[tuple[str, str], list[str]] = defaultdict(list)
    for edge in edges.values():
        by_sides[edge.chosen, edge.rejected].append(edge.row_id)
    failures = {}
    for key, edge in edges.items():
        against = by_sides.get((edge.rejected, edge.chosen))
        if against:
            failures[key] = Failure(
                "CONTRADICTION",
                f"row '{edge.row_id}' and {_rows(against)} prefer the same two answers in opposite "
                "order; aggregate the votes first",
            )
    return failures


def cycles(edges: Mapping[int, Edge]) -> dict[int, Failure]:
    """Rows on a cycle such as A over B, B over C, C over A; every row of the cycle, by key.

    An edge lies on a cycle if and only if both its ends are in one strongly connected component.
    `text_id`s hold the prompt, so one graph serves all prompts.
    """
    if len(edges) < 3:
        return {}
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes: dict[str, int] = {}
    for edge in edges.values():
        nodes.setdefault(edge.chosen, len(nodes))
        nodes.setdefault(edge.rejected, len(nodes))
    tails = [nodes[edge.chosen] for edge in edges.values()]
    heads = [nodes[edge.rejected] for edge in edges.values()]
    graph = coo_array((np.ones(len(edges)), (tails, heads)), shape=(len(nodes),) * 2)
    _, component = connected_components(graph, connection="strong")
    on_cycle: dict[Any, list[tuple[int, Edge]]] = defaultdict(list)
    for (key, edge), tail, head in zip(edges.items(), tails, heads, strict=True):
        if component[tail] == component[head]:
            on_cycle[component[tail]].append((key, edge))
    failures: dict[int, Failure] = {}
    for members in on_cycle.values():
        texts = dict.fromkeys(edge.chosen for _, edge in members)
        message = (
            f"{_rows([edge.row_id for _, edge in members])} prefer in a circle: "
            f"[{_few(list(texts))}]; no order of these answers fits"
        )
        failures |= {key: Failure("CYCLE", message) for key, _ in members}
    return failures


def duplicates(edges: Mapping[int, Edge]) -> dict[int, Failure]:
    """Rows whose prompt, chosen and rejected an earlier row has already, by key."""
    first: dict[tuple[str, str], str] = {}
    failures = {}
    for key, edge in edges.items():
        sides = (edge.chosen, edge.rejected)
        if sides in first:
            failures[key] = Failure(
                "DUPLICATE_PAIR", f"row '{first[sides]}' holds the same prompt and answers already"
            )
        first.setdefault(sides, edge.row_id)
    return failures


def _margins(row: RawRow) -> list[Any]:
    """All that is known of by how much chosen is better: the own margin, that of the ratings."""
    return [known for known in (row.margin, rating_difference(row)) if known is not None]


def _rows(row_ids: Sequence[str]) -> str:
    named = _few([f"'{row_id}'" for row_id in row_ids])
    return f"rows {named}" if len(row_ids) > 1 else f"row {named}"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
