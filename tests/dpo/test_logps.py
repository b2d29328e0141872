"""Log-probs of completions, against a table small enough to read and torch's own log-softmax."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.logps import completion_logps, token_logps


def test_only_the_positions_that_predict_the_completion_count() -> None:
    # Tokens 1 2 | 3 4. Logits of log(probability), so the log-prob of a token can be read off.
    table = torch.full((1, 4, 5), 0.1)
    table[0, 0, 2] = 0.6  # position 0 predicts the prompt's 2: not counted
    table[0, 1, 3] = 0.6  # position 1 predicts 3
    table[0, 2, 4] = 0.6  # position 2 predicts 4
    table[0, 3, 0] = 0.6  # position 3 predicts what would come next: not counted
    ids = torch.tensor([[1, 2, 3, 4]])
    mask = torch.tensor([[0, 0, 1, 1]])

    logps = completion_logps(table.log(), ids, mask)

    assert logps.shape == (1,)
    assert math.isclose(logps.item(), 2 * math.log(0.6), rel_tol=1e-6)


def test_token_logps_are_those_of_log_softmax() -> None:
    logits = torch.randn(3, 6, 11, generator=torch.Generator().manual_seed(0)) * 5
    ids = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(1))

    found = token_logps(logits, ids)

    expected = [
        [logits[b, t - 1].log_softmax(-1)[ids[b, t]].item() for t in range(1, 6)] for b in range(3)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_impossible_padding_token_does_not_spoil_the_row() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[0, 2, 0] = -math.inf
    ids = torch.tensor([[1, 2, 1, 0]])

    logps = completion_logps(logits, ids, torch.tensor([[0, 1, 1, 0]]))

    assert math.isclose(logps.item(), 2 * math.log(1 / 3), rel_tol=1e-6)


def test_a_row_without_a_completion_sums_to_zero() -> None:
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    assert completion_logps(logits, torch.tensor([[1, 2, 3]]), torch.zeros(1, 3)).item() == 0


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(1, 300, 7, dtype=torch.bfloat16)
    ids, mask = torch.zeros(1, 300, dtype=torch.long), torch.ones(1, 300)

    logps = completion_logps(logits, ids, mask)

    assert logps.dtype == torch.float32
    assert math.isclose(logps.item(), 299 * math.log(1 / 7), rel_tol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_neither_padding_nor_neighbours_change_a_row(
    lengths: list[tuple[int, int]], padding: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = max(prompt + completion for prompt, completion in lengths) + padding
    logits = torch.randn(len(lengths), width, 9, generator=generator)
    ids = torch.randint(0, 9, (len(lengths), width), generator=generator)
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, (prompt, completion) in enumerate(lengths):
        mask[row, prompt : prompt + completion] = 1

    together = completion_logps(logits, ids, mask)

    for row, (prompt, completion) in enumerate(lengths):
        whole = slice(row, row + 1), slice(0, prompt + completion)
        alone = completion_logps(logits[whole], ids[whole], mask[whole])
        torch.testing.assert_close(together[row], alone[0])
