"""The order of prompts, epoch by epoch."""

from dpo.trl_adapters.group_order import GroupOrder


def test_each_epoch_has_an_order_of_its_own_and_leaves_out_what_fills_no_batch() -> None:
    order = GroupOrder(10, batch=4, group=2, repeats=3, seed=7)
    taken = []
    for epoch in range(3):
        order.set_epoch(epoch)
        rows = list(order)
        assert len(rows) == len(order) == 48
        first, second = rows[:24], rows[24:]
        assert first == first[:8] * 3
        assert second == second[:8] * 3
        assert first[0:8:2] == first[1:8:2] == order.batches(epoch)[0]
        taken.append(set(rows))
        assert len(taken[-1]) == 8
    assert len(set(map(frozenset, taken))) > 1
    again = GroupOrder(10, batch=4, group=2, repeats=3, seed=7)
    again.set_epoch(2)
    assert list(again) == rows


def test_an_order_without_shuffle_is_the_datasets() -> None:
    order = GroupOrder(5, batch=2, group=1, repeats=1, seed=0, shuffle=False)
    assert list(order) == [0, 1, 2, 3]
