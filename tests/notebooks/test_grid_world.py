"""The grid-world learns what a breadth-first search finds, from the notebook's own grid on."""

import re
from collections import deque
from pathlib import Path

import pytest
import torch

from notebooks.grid_world import (
    Grid,
    best_moves,
    exact_values,
    fit_values,
    moves_to_goal,
    neighbours,
    play,
    ppo,
    values_of,
)

WALLS = frozenset({(1, 1), (1, 2), (2, 4), (3, 4), (4, 1), (4, 2)})
GRID = Grid(6, 6, goal=(0, 5), walls=WALLS)
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_grid_world.ipynb"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def distances(rows: int, cols: int, goal: tuple[int, int]) -> dict[tuple[int, int], int]:
    """How many moves the goal is away from each cell, by breadth-first search from the goal."""
    found, waiting = {goal: 0}, deque([goal])
    while waiting:
        row, col = waiting.popleft()
        for cell in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
            inside = 0 <= cell[0] < rows and 0 <= cell[1] < cols
            if inside and cell not in WALLS and cell not in found:
                found[cell] = found[row, col] + 1
                waiting.append(cell)
    return found


@pytest.fixture(scope="module")
def away() -> torch.Tensor:
    """Moves to the goal from every cell, (S,), from the search."""
    found = distances(6, 6, (0, 5))
    return torch.tensor([float(found[row, col]) for row, col in GRID.cells.tolist()])


def test_the_grid_is_the_notebooks_own() -> None:
    told = re.search(r"Grid\(6, 6, goal=\(0, 5\), walls=frozenset\(({.*?})\)", NOTEBOOK.read_text())
    assert told is not None
    assert {tuple(map(int, pair)) for pair in re.findall(r"\((\d), (\d)\)", told[1])} == WALLS


def test_best_neighbour_minus_one_gives_the_distances(away: torch.Tensor) -> None:
    exact = exact_values(GRID)
    assert torch.equal(exact, -away)
    assert torch.equal(moves_to_goal(GRID, neighbours(GRID, exact).argmax(1)), away)


def test_a_policy_that_runs_into_a_wall_never_arrives() -> None:
    always_up = torch.zeros(len(GRID.cells), dtype=torch.long)
    needed = moves_to_goal(GRID, always_up)
    in_last_column = GRID.cells[:, 1] == 5
    assert needed[in_last_column].tolist() == [0, 1, 2, 3, 4, 5]
    assert needed[~in_last_column].isinf().all()


def test_an_episode_is_masked_after_its_goal(away: torch.Tensor) -> None:
    torch.manual_seed(0)
    run = play(torch.nn.Linear(2, 4), GRID, GRID.cells, moves=12)
    assert run.mask.shape == (len(GRID.cells), 12)
    assert torch.equal(run.rewards, -run.mask)
    assert torch.equal(run.mask, run.mask.cummin(1).values)
    assert (run.mask.sum(1) >= away.clamp(max=12)).all()


@pytest.mark.parametrize("seed", range(5))
def test_ppo_finds_a_shortest_way_and_the_value_network_its_length(
    seed: int, away: torch.Tensor
) -> None:
    *_, learned = ppo(GRID, seed=seed)
    needed = moves_to_goal(GRID, best_moves(learned.policy, GRID))
    assert torch.equal(needed, away)
    *_, value = fit_values(GRID, -needed, seed=seed, updates=2000)
    assert (values_of(value, GRID) + away).abs().max() < 0.05


def test_many_steps_a_batch_ruin_the_policy_without_the_clip() -> None:
    def last_moves(clip: float) -> float:
        *_, last = ppo(GRID, seed=0, updates=30, epochs=30, learning_rate=1e-2, clip=clip)
        return last.moves

    assert last_moves(clip=0.2) < 10
    assert last_moves(clip=1e9) > 20
