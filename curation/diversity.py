"""How much the answers to one prompt differ from each other."""

from collections.abc import Hashable, Sequence


def distinct(answers: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of the answers, from near 0 to 1; None without an n-gram.

    Li et al. (2016), "A Diversity-Promoting Objective Function for Neural Conversation Models",
    distinct-1 and distinct-2. Longer answers repeat more by chance: compare at like lengths.
    """
    grams = [
        tuple(answer[start : start + n])
        for answer in answers
        for start in range(len(answer) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else None
