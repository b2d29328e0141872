"""The gate: raw rows in, preference pairs out, and every other row in quarantine with a reason.

A row gets the code of the first check it fails, in the order declared here: what one row shows by
itself, then its tokens, then what it says against the other rows of its prompt.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from curation.validation import preference, structure, text
from curation.validation.files import rows_from_file
from curation.validation.preference import Edge
from curation.validation.row import (
    Failure,
    Quarantined,
    RawRow,
    row_from_proposal,
    rows_from_proposals,
)
from curation.validation.split import LeakReport, leaks, split_of
from curation.validation.tokens import TokenChecks
from schemas.configs import ValidateConfig
from schemas.records import PairProposal, PreferencePair

if TYPE_CHECKING:
    from curation.validation.tokens import Chat

__all__ = [
    "Gate",
    "GateResult",
    "LeakReport",
    "Quarantined",
    "RawRow",
    "leaks",
    "rows_from_file",
    "rows_from_proposals",
    "split_of",
]

_BATCH_ROWS = 512

_ROW_CHECKS = (
    structure.bad_message,
    text.unstorable,
    structure.unknown_role,
    text.empty_completion,
    structure.no_shared_prompt,
    text.empty_prompt,
    structure.history_differs,
    structure.prompt_repeated,
    structure.last_role,
    structure.role_order,
    text.identical_sides,
    preference.rating_count,
    preference.bad_number,
    preference.reversed_sides,
    preference.tie,
)
"""Each tells why a row fails, or None; a check may rely on those before it."""

_GROUP_CHECKS = (preference.contradictions, preference.cycles, preference.duplicates)
"""Each sees the rows that are left after those before it."""

T = TypeVar("T")


class GateResult(NamedTuple):
    """What became of each row: `in` = `out` + `quarantined`."""

    pairs: list[PreferencePair]
    quarantined: list[Quarantined]
    """In the order of the rows, as are the pairs."""
    counts: dict[str, int]
    """`in`, `out`, `quarantined`; of those out, `train` and `test`."""
    reasons: dict[str, int]
    """Quarantined rows by code, most frequent first."""
    warnings: list[str]
    """Sentences that begin with their code, about rows that passed."""
    refusal: str | None
    """Why no row at all can pass this chat template; None where some can."""
    max_quarantined: float

    @property
    def failed(self) -> bool:
        """Whether more is quarantined than the config allows, or the template breaks every row."""
        allowed = self.max_quarantined * self.counts["in"]
        return self.refusal is not None or self.counts["quarantined"] > allowed


class Gate:
    """Decides which rows may be trained on, and which split each is in.

    Without a chat template the checks that need one are left out, with a warning.
    """

    def __init__(self, config: ValidateConfig, *, seed: int, chat: "Chat | None" = None) -> None:
        self._config = config
        self._seed = seed
        self._chat = chat if config.token_checks else None
        self._row_checks: list[Callable[[RawRow], Failure | None]] = [
            *_ROW_CHECKS,
            partial(preference.below_margin, least=config.min_margin),
            preference.truncated_candidate,
        ]
        if self._chat is not None:
            self._row_checks.append(
                partial(text.special_token, markers_in=self._chat.rendered_markers)
            )

    def run(self, rows: Iterable[RawRow]) -> GateResult:
        """The rows sorted into pairs and quarantine; they are read once."""
        tokens = None
        if self._chat is not None:
            tokens = TokenChecks(self._chat, self._config.max_length)
        total = 0
        marked: dict[int, tuple[str, str]] = {}
        repeated: dict[int, str] = {}
        passed: dict[int, tuple[str, PairProposal]] = {}
        quarantined: dict[int, Quarantined] = {}
        for batch in _batches(enumerate(rows), _BATCH_ROWS):
            total += len(batch)
            checked: dict[int, tuple[str, PairProposal]] = {}
            for index, row in batch:
                outcome = self._check_row(row)
                if isinstance(outcome, Failure):
                    quarantined[index] = row.quarantined(outcome)
                else:
                    checked[index] = (row.row_id, outcome)
                    marker = text.turn_marker(row)
                    if marker is not None:
                        marked[index] = (row.row_id, marker)
                    if text.repeats_question(row):
                        repeated[index] = row.row_id
            if tokens is not None:
                failures = tokens.failures([proposal for _, proposal in checked.values()])
                found = dict(zip(checked, failures, strict=True))
                _move(checked, quarantined, {at: f for at, f in found.items() if f is not None})
            passed |= checked
        for find in _GROUP_CHECKS:
            _move(passed, quarantined, find({at: _edge(*row) for at, row in passed.items()}))
        markers = [found for index, found in marked.items() if index in passed]
        repeats = [row_id for index, row_id in repeated.items() if index in passed]
        # Each proposal goes as its pair comes, so that memory holds one of the two.
        pairs = [self._pair(passed.pop(index)[1]) for index in list(passed)]
        warnings = self._warnings(pairs, markers, repeats)
        if tokens is not None:
            warnings += tokens.warnings()
        splits = Counter(pair.split for pair in pairs)
        return GateResult(
            pairs=pairs,
            quarantined=[quarantined[index] for index in sorted(quarantined)],
            counts={
                "in": total,
                "out": len(pairs),
                "quarantined": len(quarantined),
                "train": splits["train"],
                "test": splits["test"],
            },
            reasons=dict(Counter(row.code for row in quarantined.values()).most_common()),
            warnings=warnings,
            refusal=tokens.refusal() if tokens is not None else None,
            max_quarantined=self._config.max_quarantined,
        )

    def _check_row(self, row: RawRow) -> Failure | PairProposal:
        if row.error is not None:
            return row.error
        for check in self._row_checks:
            failure = check(row)
            if failure is not None:
                return failure
        try:
            return row.to_proposal()
        except ValueError as error:
            return Failure("BAD_MESSAGE", f"a message is no record: {_in_one_line(error)}")

    def _pair(self, proposal: PairProposal) -> PreferencePair:
        fields = {name: getattr(proposal, name) for name in PairProposal.model_fields}
        split = split_of(proposal.prompt.group, self._seed, self._config.test_share)
        return PreferencePair(**fields, split=split)

    def _warnings(
        self,
        pairs: Sequence[PreferencePair],
        markers: Sequence[tuple[str, str]],
        repeats: Sequence[str],
    ) -> list[str]:
        warnings = []
        if self._config.token_checks and self._chat is None:
            warnings.append(
                "TOKENS_UNCHECKED: no chat template was given, so no row's tokens were checked"
            )
        if markers:
            row_id, marker = markers[0]
            warnings.append(
                f"ALREADY_RENDERED: {len(markers)} rows hold a chat template's markers as text, "
                f"'{row_id}' first ({marker}); expected text to which no template has been applied"
            )
        if repeats:
            warnings.append(
                f"PROMPT_REPEATED_IN_COMPLETION: in {len(repeats)} rows both answers begin with "
                f"the text of the prompt, '{repeats[0]}' first; expected the answers alone"
            )
        splits = {pair.split for pair in pairs}
        if splits == {"test"}:
            warnings.append("NO_TRAIN_PAIRS: all pairs fall into the test split (test_share)")
        if splits == {"train"} and self._config.test_share > 0:
            warnings.append("NO_TEST_PAIRS: no pair falls into the test split (test_share)")
        return warnings


def _edge(row_id: str, proposal: PairProposal) -> Edge:
    return Edge(row_id, proposal.chosen.text_id, proposal.rejected.text_id)


def _move(
    rows: dict[int, tuple[str, PairProposal]],
    quarantined: dict[int, Quarantined],
    failures: dict[int, Failure],
) -> None:
    """Take the rows that failed out of the one and into the other."""
    for index, failure in failures.items():
        row = row_from_proposal(*rows.pop(index))
        quarantined[index] = row.quarantined(failure)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _in_one_line(error: ValueError) -> str:
    return " ".join(str(error).split())
