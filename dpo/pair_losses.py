"""The losses of TRL's DPO trainer that a pair has by itself, and their form under confidence.

Tensors in, tensors out, (B,). Each is TRL 1.16's own to float error. A loss is here if it is a
function of one chosen and one rejected answer that keeps a meaning with the two swapped: the
expected loss w * [p * loss(+) + (1 - p) * loss(-)] is then that of a label that is right with
probability p. For several it is a soft label that their own papers know, as said below.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch.nn.functional import logsigmoid

from dpo.losses import dpo_loss, expected_loss

if TYPE_CHECKING:
    from torch import Tensor


class LogRatios(NamedTuple):
    """log(policy / reference) of both sides of each pair, summed over tokens, and their lengths."""

    chosen: "Tensor"
    rejected: "Tensor"
    chosen_tokens: "Tensor"
    """At least 1, (B,)."""
    rejected_tokens: "Tensor"

    @property
    def margins(self) -> "Tensor":
        """What `log_ratio_margin` gives, (B,)."""
        return self.chosen - self.rejected

    @property
    def mean_margins(self) -> "Tensor":
        """The difference of the log-ratios' means over each side's tokens, (B,)."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens

    def swap(self) -> "LogRatios":
        """The same pairs, each with its label flipped."""
        return LogRatios(self.rejected, self.chosen, self.rejected_tokens, self.chosen_tokens)


class LossSettings(NamedTuple):
    """What TRL's arguments set for the losses."""

    beta: float
    label_smoothing: float = 0.0
    """Read by robust and exo_pair alone."""
    discopop_tau: float = 0.05


def hinge_loss(margins: "Tensor", beta: float) -> "Tensor":
    """max(0, 1 - beta * margin): the hinge of SLiC, Zhao et al. (2023), on DPO's rewards."""
    return (1 - beta * margins).relu()


def ipo_loss(mean_margins: "Tensor", beta: float) -> "Tensor":
    """(margin - 1 / (2 * beta))^2, Azar et al. (2023), eq. 17; beta is their tau.

    Departure: the margin is of means over tokens, as the authors told TRL they had meant. Expected
    over the label it is least at the margin (2p - 1) / (2 * beta).
    """
    return (mean_margins - 1 / (2 * beta)).square()


def robust_loss(margins: "Tensor", beta: float, label_smoothing: float) -> "Tensor":
    """An unbiased estimate of `dpo_loss` from labels flipped at the rate e, label_smoothing.

    [(1 - e) * loss(+) - e * loss(-)] / (1 - 2e), Chowdhury et al. (2024). Expected over a
    label that is right with probability p, it is `confident_dpo_loss` at (p - e) / (1 - 2e): p is
    what labels subject to the flips show, and at p = 1 - e nothing is left but `dpo_loss`.
    """
    as_labelled, if_flipped = dpo_loss(margins, beta), dpo_loss(-margins, beta)
    noise = label_smoothing
    return ((1 - noise) * as_labelled - noise * if_flipped) / (1 - 2 * noise)


def exo_pair_loss(margins: "Tensor", beta: float, label_smoothing: float) -> "Tensor":
    """KL from the policy's choice between the two to [1 - e, e], Ji et al. (2024), eq. 16.

    e, label_smoothing, is more than 0. Expected over the label it is least where beta * margin is
    (2p - 1) * log((1 - e) / e).
    """
    log_chosen, log_rejected = logsigmoid(beta * margins), logsigmoid(-beta * margins)
    return log_chosen.exp() * (log_chosen - math.log1p(-label_smoothing)) + log_rejected.exp() * (
        log_rejected - math.log(label_smoothing)
    )


def discopop_loss(margins: "Tensor", beta: float, tau: float) -> "Tensor":
    """A blend of the logistic and the exponential loss, Lu et al. (2024), eq. 5; tau is below 1."""
    logits = beta * margins
    # exp(-logits) * sigmoid(logits / tau), without the inf * 0 of two factors.
    exponential = (logsigmoid(logits / tau) - logits).exp()
    return -logsigmoid(logits) * (-logits / tau).sigmoid() + exponential


def nca_pair_loss(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """Noise-contrastive alignment of two answers, Chen et al. (2024).

    Expected over the label it is theirs for the soft rewards p and 1 - p.
    """
    return (
        -logsigmoid(beta * chosen)
        - 0.5 * logsigmoid(-beta * chosen)
        - 0.5 * logsigmoid(-beta * rejected)
    )


def bco_pair_loss(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """A classifier's loss, chosen against rejected, Jung et al. (2024), without their shift.

    Each answer is classified by itself. Expected over the label it is the cross-entropy with the
    soft labels p and 1 - p. TRL 1.16 has no running mean of rewards (their delta) here.
    """
    return -logsigmoid(beta * chosen) - logsigmoid(-beta * rejected)


def sppo_hard_loss(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """Squared distances to 1 / (2 * beta) and -1 / (2 * beta), Wu et al. (2024), eq. 4.7.

    Expected over the label it is, but for a constant, theirs with the soft win rates p and 1 - p:
    least at the log-ratios (p - 1/2) / beta and (1/2 - p) / beta.
    """
    return (chosen - 0.5 / beta).square() + (rejected + 0.5 / beta).square()


def apo_zero_loss(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """Chosen up, rejected down, D'Oosterlinck et al. (2024), eq. 7.

    Bounded, so that confidence scales its gradient by 2p - 1 and moves no minimum.
    """
    return (-beta * chosen).sigmoid() + (beta * rejected).sigmoid()


def apo_down_loss(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """Both down, rejected further, D'Oosterlinck et al. (2024), eq. 8."""
    return (beta * chosen).sigmoid() + (-beta * (chosen - rejected)).sigmoid()


PAIR_LOSSES: dict[str, Callable[[LogRatios, LossSettings], "Tensor"]] = {
    "sigmoid": lambda pairs, to: dpo_loss(pairs.margins, to.beta),
    "sigmoid_norm": lambda pairs, to: dpo_loss(pairs.mean_margins, to.beta),
    "hinge": lambda pairs, to: hinge_loss(pairs.margins, to.beta),
    "ipo": lambda pairs, to: ipo_loss(pairs.mean_margins, to.beta),
    "robust": lambda pairs, to: robust_loss(pairs.margins, to.beta, to.label_smoothing),
    "exo_pair": lambda pairs, to: exo_pair_loss(pairs.margins, to.beta, to.label_smoothing),
    "discopop": lambda pairs, to: discopop_loss(pairs.margins, to.beta, to.discopop_tau),
    "nca_pair": lambda pairs, to: nca_pair_loss(pairs.chosen, pairs.rejected, to.beta),
    "bco_pair": lambda pairs, to: bco_pair_loss(pairs.chosen, pairs.rejected, to.beta),
    "sppo_hard": lambda pairs, to: sppo_hard_loss(pairs.chosen, pairs.rejected, to.beta),
    "apo_zero": lambda pairs, to: apo_zero_loss(pairs.chosen, pairs.rejected, to.beta),
    "apo_down": lambda pairs, to: apo_down_loss(pairs.chosen, pairs.rejected, to.beta),
}
"""The losses that take confidence, by TRL's names; (B,)."""

_SORTS = "which sorts each side of the batch, so that no pair has a loss of its own"

NO_PAIR_LOSS = {
    "aot": _SORTS,
    "aot_unpaired": _SORTS,
    "sft": "which reads the chosen answers alone, so that there is nothing to swap",
}
"""The losses of TRL that take none, and why."""


def confident_loss(
    name: str, pairs: LogRatios, settings: LossSettings, p_chosen: "Tensor", weight: "Tensor"
) -> "Tensor":
    """The `expected_loss` of each pair, (B,), under the loss of that name in `PAIR_LOSSES`.

    TRL's own where p and w are 1. p_chosen, weight: (B,).
    """
    loss = PAIR_LOSSES[name]
    return expected_loss(loss(pairs, settings), loss(pairs.swap(), settings), p_chosen, weight)
