"""What must hold on every road from pairs to a policy, whoever said which answer is better."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from pairwright.errors import CheckError, one_sentence
from pairwright.plan import Plan
from pairwright.progress import Progress
from pairwright.selftest.planted import Comparison, Opinions, turns_of, words
from schemas.records import PairProposal, PreferencePair
from schemas.run_folder import RunFolder


class Law(NamedTuple):
    """Something that must hold on the road, and how often it did."""

    law: str
    held: int
    seen: int

    @property
    def holds(self) -> bool:
        return self.held == self.seen > 0


def as_far_as_it_goes(laws: Iterator[Law], progress: Progress) -> Iterator[Law]:
    """The laws; a stage that refuses what it is given ends them, and breaks one itself."""
    accepted = 1
    try:
        yield from laws
    except (CheckError, ValueError) as error:
        progress.line(f"selftest: the road ends here: {one_sentence(error)}")
        accepted = 0
    yield Law("every stage accepts what the one before it gave", accepted, 1)


def summed(laws: Iterable[Law]) -> list[Law]:
    """Each law once, with all that was seen of it, in the order in which they came."""
    held: dict[str, Law] = {}
    for law, right, total in laws:
        before = held.get(law, Law(law, 0, 0))
        held[law] = Law(law, before.held + right, before.seen + total)
    return list(held.values())


def laws_table(laws: Sequence[Law]) -> Table:
    table = Table("law", "holds", "seen", box=None, pad_edge=False)
    for law in laws:
        mark = Text("yes", style="green") if law.holds else Text("NO", style="bold red")
        table.add_row(law.law, mark, f"{law.held} of {law.seen}")
    return table


def gate_laws(plan: Plan) -> Iterator[Law]:
    """A pair that is turned round, or none at all, does not get through the gate."""
    from curation.validation.gate import Gate, rows_from_proposals

    proposals = list(plan.run.stage("pair").read(PairProposal))
    count = len(proposals)
    gate = Gate(plan.config.gate, seed=plan.config.seed)
    turned = [_changed(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in proposals]
    both = gate.run(rows_from_proposals([*proposals, *turned]))
    kept_out = sum(row.code == "CONTRADICTION" for row in both.quarantined)
    yield Law("the gate keeps out a pair and its reverse", kept_out, 2 * count)
    known = [
        _changed(
            pair,
            margin=None if pair.margin is None else -pair.margin,
            p_chosen=None if pair.p_chosen is None else 1 - pair.p_chosen,
        )
        for pair in turned
    ]
    against = gate.run(rows_from_proposals(known))
    kept_out = sum(row.code == "REVERSED" for row in against.quarantined)
    yield Law("the gate keeps out a pair that its own figures contradict", kept_out, count)
    ties = gate.run(rows_from_proposals(_changed(pair, **_tie(pair)) for pair in proposals))
    kept_out = sum(row.code == "TIE" for row in ties.quarantined)
    yield Law("the gate keeps out a tie", kept_out, count)


def dataset_laws(run: RunFolder, opinions: Opinions) -> Iterator[Law]:
    """What the files of the dataset say, read as another trainer would read them."""
    import pyarrow.parquet as pq

    from curation.formats.trl import dataset_row, read_dataset

    folder = run.stage("export").folder
    pairs = list(run.stage("validate").read(PreferencePair))
    rows = [row for file in folder.glob("t*.parquet") for row in pq.read_table(file).to_pylist()]
    plain = [row for row in rows if not row.get("tools")]
    right = sum(
        opinions.prefers(*(_messages(row[name]) for name in ("prompt", "chosen", "rejected")))
        for row in plain
    )
    yield Law("the dataset's chosen column holds the better answer", right, len(plain))

    found = {
        (split, row["pair_id"]): row for split, part in read_dataset(folder).items() for row in part
    }
    same = sum(found.get((pair.split, pair.id)) == dataset_row(pair) for pair in pairs)
    yield Law("the dataset reads back as the pairs", same, max(len(found), len(pairs)))
    splits: dict[str, set[str]] = {}
    for pair in pairs:
        splits.setdefault(pair.prompt.group, set()).add(pair.split)
    yield Law("no prompt is in both splits", sum(map(len, splits.values())), len(splits))


def token_laws(plan: Plan, opinions: Opinions) -> Iterator[Law]:
    """What the trainer's batches spell: the better answer in the first half of each."""
    from curation.formats.trl import read_dataset
    from curation.models import load_chat
    from dpo.tokens import tokenise_pairs
    from dpo.trl_adapters.pairs import PairCollator

    chat = load_chat(plan.config.model)
    rows = read_dataset(plan.run.stage("export").folder)["train"]
    plain = [row for row in rows if not row["tools"]]
    pairs = tokenise_pairs(plain, chat, plan.config.gate.max_length)
    pad = chat.tokenizer.pad_token_id
    batch = PairCollator(pad, None)([{**pair._asdict(), "real": True} for pair in pairs])
    read = [
        (
            _read(chat.tokenizer.decode(ids[present == 1])),
            chat.tokenizer.decode(ids[completion == 1]),
        )
        for ids, present, completion in zip(
            batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
        )
    ]
    scored = sum(
        completion == _written(turns[-1:]).removeprefix(_ASSISTANT) for turns, completion in read
    )
    yield Law("the tokens that are scored spell one answer", scored, len(read))
    right = sum(
        chosen[:-1] == rejected[:-1] and opinions.prefers(chosen[:-1], chosen[-1:], rejected[-1:])
        for (chosen, _), (rejected, _) in zip(read[: len(pairs)], read[len(pairs) :], strict=True)
    )
    yield Law("the tokens of chosen spell the better answer", right, len(pairs))


def training_laws(plan: Plan, opinions: Opinions) -> Iterator[Law]:
    """DPO must make the better answer likelier than the worse one, not the other way round."""
    from dpo.step_log import StepRecord

    run = plan.run
    steps = list(run.stage("dpo").read(StepRecord))
    first, last = steps[0], steps[-1]
    yield Law("DPO starts at its reference", int(abs(first.rewards_margin or 0) < 1e-4), 1)
    learned = (last.rewards_margin or 0) > 0 and last.loss < first.loss
    yield Law("DPO's loss falls and its margin grows", int(learned), 1)
    pairs = run.stage("validate").read(PreferencePair)
    trained = [pair for pair in pairs if pair.split == "train"]
    named = {pair_id for step in steps for pair_id in step.pair_ids}
    known = sum(pair.id in named for pair in trained)
    yield Law("the step log names every training pair", known, len(trained))

    plain = [pair for pair in trained if not pair.prompt.tools]
    contrasted = {frozenset(comparison(pair)) for pair in plain}
    contrasts = [item for item in opinions.comparisons() if frozenset(item) in contrasted]
    margins = _margins(plan, contrasts)
    right = sum(margin > 0 for margin in margins)
    yield Law("the trained policy leans to the better answer", right, len(margins))


def comparison(pair: PairProposal) -> Comparison:
    """The pair by its words."""
    return Comparison(
        words(pair.prompt.message_dicts()),
        words(pair.chosen.completion.message_dicts()),
        words(pair.rejected.completion.message_dicts()),
    )


def _margins(plan: Plan, contrasts: Sequence[Comparison]) -> list[float]:
    """DPO's log-ratio margin of better over worse, reckoned from plain logits alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plan.config.model.path)
    folders = (plan.run.stage("dpo").folder / "policy", Path(plan.config.model.path))
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def logp(model: Any, prompt: list[int], completion: list[int]) -> float:
        tokens = torch.tensor([prompt + completion])
        with torch.no_grad():
            logps = model(tokens).logits[0, :-1].float().log_softmax(-1)
        start = len(prompt)
        return sum(
            float(logps[place - 1, token])
            for place, token in enumerate(prompt + completion)
            if place >= start
        )

    margins = []
    for item in contrasts:
        prompt = ids(_written(turns_of(item.asked)) + _ASSISTANT)
        better, worse = (
            ids(_written(turns_of(side)).removeprefix(_ASSISTANT))
            for side in (item.better, item.worse)
        )
        margins.append(
            (logp(policy, prompt, better) - logp(reference, prompt, better))
            - (logp(policy, prompt, worse) - logp(reference, prompt, worse))
        )
    return margins


def _messages(column: Sequence[Any]) -> list[Any]:
    """A column's messages, each of which is JSON where tool calls could have no one Arrow type."""
    return [json.loads(item) if isinstance(item, str) else item for item in column]


_ASSISTANT = "<|im_start|>assistant\n"
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", re.DOTALL)


def _read(text: str) -> list[dict[str, Any]]:
    """The turns of a conversation in ChatML."""
    return [{"role": role, "content": content} for role, content in _TURN.findall(text)]


def _written(turns: Iterable[Mapping[str, Any]]) -> str:
    """The turns in ChatML, as the tiny model's template has it."""
    return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)


def _tie(pair: PairProposal) -> dict[str, float]:
    return {"p_chosen": 0.5} if pair.margin is None else {"margin": 0.0}


def _changed(pair: PairProposal, **fields: Any) -> PairProposal:
    """The proposal with other fields, under the id that these give it."""
    old = {name: getattr(pair, name) for name in PairProposal.model_fields}
    return PairProposal(**{**old, "id": "", **fields})
