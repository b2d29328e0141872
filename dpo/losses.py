"""The DPO loss and its form for pairs that carry confidence: tensors in, tensors out."""

from typing import TYPE_CHECKING

from torch.nn.functional import logsigmoid

if TYPE_CHECKING:
    from torch import Tensor


def log_ratio_margin(
    chosen_logps: "Tensor",
    rejected_logps: "Tensor",
    ref_chosen_logps: "Tensor",
    ref_rejected_logps: "Tensor",
) -> "Tensor":
    """How much more the policy prefers chosen over rejected than its reference does, (B,).

    log(pi(y_w|x) / ref(y_w|x)) - log(pi(y_l|x) / ref(y_l|x)): times beta, the difference of the
    implicit rewards of Rafailov et al. (2023), eq. 5. All arguments are (B,) summed log-probs.
    """
    return (chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps)


def dpo_loss(margins: "Tensor", beta: float) -> "Tensor":
    """The loss of each pair, (B,): -log sigmoid(beta * margin), Rafailov et al. (2023), eq. 7.

    log 2 where the policy is its reference.
    """
    return -logsigmoid(beta * margins)


def confident_dpo_loss(
    margins: "Tensor", beta: float, p_chosen: "Tensor", weight: "Tensor"
) -> "Tensor":
    """The loss of each pair, (B,): w * [p * loss(margin) + (1 - p) * loss(-margin)].

    The expected `dpo_loss` where chosen is truly better with probability p, times the pair's
    weight; with one p for all pairs it is the conservative DPO of Mitchell (2023), eq. 3. Equal to
    `dpo_loss` where p and w are 1. For p below 1 the loss is least at a finite margin,
    log(p / (1 - p)) / beta.

    margins, p_chosen, weight: (B,).
    """
    as_labelled = dpo_loss(margins, beta)
    if_flipped = dpo_loss(-margins, beta)
    return weight * (p_chosen * as_labelled + (1 - p_chosen) * if_flipped)
