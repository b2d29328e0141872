"""The reference's log-probabilities on disk, so that a second run need not compute them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dpo.tokens import PairTokens, tokens_hash
from schemas.records import content_hash
from schemas.run_folder import write_atomic


class ReferenceLogps(NamedTuple):
    """Summed log-probs of the completions under the reference, one a pair."""

    chosen: list[float]
    rejected: list[float]


def reference_key(
    pairs: Sequence[PairTokens], *, weights: str, precision: str, ld_alpha: float | None
) -> str:
    """What the log-probs depend on: ids and tokens (so template and tokenizer), weights, precision.

    TRL's `ld_alpha` weighs the tokens that only the longer side has, so it counts too.
    """
    return content_hash(tokens_hash(pairs), weights, precision, ld_alpha)


def read_reference(path: Path) -> ReferenceLogps | None:
    """The stored log-probs; None where there are none."""
    if not path.exists():
        return None
    columns = pq.read_table(path).to_pydict()
    return ReferenceLogps(columns["ref_chosen_logps"], columns["ref_rejected_logps"])


def write_reference(path: Path, pairs: Sequence[PairTokens], logps: ReferenceLogps) -> None:
    table = pa.table(
        {
            "pair_id": [pair.pair_id for pair in pairs],
            "ref_chosen_logps": logps.chosen,
            "ref_rejected_logps": logps.rejected,
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sink.getvalue())


def check_start(
    policy: ReferenceLogps, reference: ReferenceLogps, pairs: Sequence[PairTokens], bf16: bool
) -> None:
    """Return if the policy's first log-probs are those of its reference, as they must be.

    Raises:
        ValueError: they differ, so the reference is another model than the policy's start, such as
            the base model without the SFT model's adapter.
    """
    near, far = (0.1, 1e-2) if bf16 else (1e-4, 1e-5)
    for side in ("chosen", "rejected"):
        for pair, ours, theirs in zip(
            pairs, getattr(policy, side), getattr(reference, side), strict=False
        ):
            if abs(ours - theirs) > near + far * abs(theirs):
                raise ValueError(
                    f"the policy does not start at its reference: pair '{pair.pair_id}', {side} "
                    f"has log-prob {ours:.4f} under the policy and {theirs:.4f} under the "
                    "reference; the reference must be the SFT model with its own adapter (delete "
                    "the stage's reference/ folder if its values are not this model's)"
                )
