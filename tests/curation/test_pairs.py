"""No tie, no swap, every prompt and candidate accounted for; edits change what they name."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.edits import ReplaceName, ReplaceNames, Worse, augment
from curation.pairs import (
    AllPairs,
    BestVsRandom,
    BestVsWorst,
    MaxMin,
    PromptPairs,
    propose_edits,
    propose_pairs,
)
from schemas.interfaces import IndexPair, PairStrategy
from schemas.records import Candidate, Completion, Message, Origin, PairProposal, Prompt, Ranking

PROMPT = Prompt(messages=(Message(role="user", content="Name a colour."),))


def candidate(text: str, *, prompt: Prompt = PROMPT, **fields: object) -> Candidate:
    return Candidate(
        prompt_id=prompt.id,
        completion=Completion.from_text(text, **fields),
        origin=Origin(generator="transformers"),
    )


def ranking(candidates: Sequence[Candidate], scores: Sequence[float]) -> Ranking:
    """Higher scores rank better; equal scores share a dense rank."""
    best_first = sorted(set(scores), reverse=True)
    return Ranking(
        prompt_id=candidates[0].prompt_id,
        candidates=tuple(candidate.text_id for candidate in candidates),
        ranks=tuple(best_first.index(score) + 1 for score in scores),
        scores=tuple(scores),
        method="score",
    )


def propose(
    texts: Sequence[str], scores: Sequence[float], strategy: PairStrategy, *, seed: int = 0
) -> PromptPairs:
    candidates = [candidate(text) for text in texts]
    (result,) = propose_pairs(
        [(PROMPT, candidates, ranking(candidates, scores))], strategy, seed=seed
    )
    return result


def texts_of(result: PromptPairs) -> list[tuple[str, str]]:
    return [
        (pair.chosen.completion.text, pair.rejected.completion.text) for pair in result.proposals
    ]


STRATEGIES: list[PairStrategy] = [
    BestVsWorst(),
    BestVsRandom(),
    AllPairs(),
    MaxMin(),
    MaxMin(margin=1.5),
    MaxMin(length_penalty=0.7, unit="characters"),
]
SCORED = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8)), min_size=1, max_size=7)


@given(SCORED, st.sampled_from(STRATEGIES), st.integers(0, 5))
@settings(deadline=None)
def test_no_strategy_pairs_a_tie_or_swaps_a_winner(
    scored: list[tuple[int, int]], strategy: PairStrategy, seed: int
) -> None:
    texts = [f"{index}" * length for index, (_, length) in enumerate(scored)]
    scores = {text: score for text, (score, _) in zip(texts, scored, strict=True)}
    result = propose(texts, list(scores.values()), strategy, seed=seed)
    for chosen, rejected in texts_of(result):
        assert scores[chosen] > scores[rejected]
    assert all(pair.margin is not None and pair.margin > 0 for pair in result.proposals)


@given(SCORED, st.sampled_from(STRATEGIES), st.data())
@settings(deadline=None)
def test_the_order_of_the_candidates_has_no_say(
    scored: list[tuple[int, int]], strategy: PairStrategy, data: st.DataObject
) -> None:
    texts = [f"{index}" * length for index, (_, length) in enumerate(scored)]
    scores = [float(score) for score, _ in scored]
    order = data.draw(st.permutations(range(len(texts))))
    shuffled = propose([texts[at] for at in order], [scores[at] for at in order], strategy)
    assert texts_of(shuffled) == texts_of(propose(texts, scores, strategy))


@given(SCORED, st.sampled_from(STRATEGIES))
@settings(deadline=None)
def test_every_candidate_is_used_or_unused_with_a_reason(
    scored: list[tuple[int, int]], strategy: PairStrategy
) -> None:
    texts = [f"{index}" * length for index, (_, length) in enumerate(scored)]
    result = propose(texts, [float(score) for score, _ in scored], strategy)
    sides = {text for pair in texts_of(result) for text in pair}
    assert result.used == len(sides)
    assert result.used + len(result.unused) == len(texts)
    assert (result.reason is None) == bool(result.proposals)


def test_best_vs_worst_takes_the_ends() -> None:
    result = propose(["a", "b", "c"], [2.0, 5.0, 1.0], BestVsWorst())
    assert texts_of(result) == [("b", "c")]
    assert result.proposals[0].margin == 4.0
    assert result.proposals[0].p_chosen is None
    assert result.proposals[0].strategy == "BestVsWorst"
    assert list(result.unused.values()) == ["NOT_CHOSEN"]


def test_best_vs_random_draws_every_worse_candidate_by_and_by() -> None:
    drawn = {
        texts_of(propose(["a", "b", "c"], [3, 2, 1], BestVsRandom(), seed=s))[0][1]
        for s in range(30)
    }
    assert drawn == {"b", "c"}


def test_all_pairs_gives_three_pairs_of_three_ranks() -> None:
    result = propose(["a", "b", "c"], [3, 2, 1], AllPairs())
    assert sorted(texts_of(result)) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_ranking_with_one_tied_end_still_pairs_the_others() -> None:
    result = propose(["a", "b", "c"], [3, 3, 1], AllPairs())
    assert sorted(texts_of(result)) == [("a", "c"), ("b", "c")]


@pytest.mark.parametrize("scores", [[3.0, 3.0, 3.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_scores_are_one_tie_and_no_pair(scores: list[float], strategy: PairStrategy) -> None:
    result = propose(["x", "y", "z"], scores, strategy)
    assert (result.proposals, result.reason) == ([], "TIE")
    assert list(result.unused.values()) == ["TIE"] * 3


def test_a_prompt_without_ranking_is_unscored_and_the_next_goes_on() -> None:
    candidates = [candidate(text) for text in "abc"]
    first, second = propose_pairs(
        [
            (PROMPT, candidates, None),
            (PROMPT, candidates, ranking(candidates, [3, 2, 1])),
        ],
        AllPairs(),
        seed=0,
    )
    assert (len(first.proposals), first.reason) == (0, "UNSCORED")
    assert (len(second.proposals), second.reason) == (3, None)


def test_candidates_that_were_not_ranked_are_unscored() -> None:
    candidates = [candidate(text) for text in "abc"]
    only_two = ranking(candidates[:2], [2, 1])
    (result,) = propose_pairs([(PROMPT, candidates, only_two)], AllPairs(), seed=0)
    assert texts_of(result) == [("a", "b")]
    assert result.unused == {candidates[2].id: "UNSCORED"}
    only_one = ranking(candidates[:1], [2])
    (result,) = propose_pairs([(PROMPT, candidates, only_one)], AllPairs(), seed=0)
    assert result.reason == "UNSCORED"


def test_one_distinct_text_is_too_few() -> None:
    twice = [candidate("a"), candidate("a", finish_reason="stop")]
    (result,) = propose_pairs([(PROMPT, twice, None)], AllPairs(), seed=0)
    assert result.reason == "TOO_FEW_CANDIDATES"
    assert sorted(result.unused.values()) == ["SAME_TEXT", "TOO_FEW_CANDIDATES"]


def test_the_length_penalty_moves_the_pair_but_never_the_winner() -> None:
    # Penalised by 0.5 a character: "aaaaaa" 5 - 3 = 2, "bb" 4 - 1 = 3, "c" 1 - 0.5 = 0.5.
    texts, scores = ["aaaaaa", "bb", "c"], [5.0, 4.0, 1.0]
    plain = propose(texts, scores, MaxMin())
    penalised = propose(texts, scores, MaxMin(length_penalty=0.5, unit="characters"))
    assert texts_of(plain) == [("aaaaaa", "c")]
    assert texts_of(penalised) == [("bb", "c")]
    assert penalised.proposals[0].margin == 3.0
    # "aaaaaa" 5 - 6 = -1, "bb" 4.5 - 2 = 2.5: the penalty turns the order round, so no pair.
    reversed_order = propose(
        ["aaaaaa", "bb"], [5.0, 4.5], MaxMin(length_penalty=1.0, unit="characters")
    )
    assert (reversed_order.proposals, reversed_order.reason) == ([], "BELOW_MARGIN")


def test_max_min_counts_the_sampled_tokens() -> None:
    candidates = [
        candidate("long", token_ids=(1, 2, 3, 4)),
        candidate("short", token_ids=(1,)),
        candidate("worst", token_ids=(1, 2)),
    ]
    # 3 - 4 = -1, 2.5 - 1 = 1.5, 1 - 2 = -1.
    item = (PROMPT, candidates, ranking(candidates, [3.0, 2.5, 1.0]))
    (result,) = propose_pairs([item], MaxMin(length_penalty=1.0), seed=0)
    assert texts_of(result) == [("short", "worst")]
    unsampled = [candidate("long"), candidate("short")]
    item = (PROMPT, unsampled, ranking(unsampled, [2.0, 1.0]))
    with pytest.raises(ValueError, match=r"has no token ids to count.*use unit: characters"):
        list(propose_pairs([item], MaxMin(length_penalty=1.0), seed=0))


def test_max_min_asks_for_its_margin() -> None:
    assert propose(["a", "b"], [2.0, 1.0], MaxMin(margin=1.0)).reason is None
    assert propose(["a", "b"], [2.0, 1.1], MaxMin(margin=1.0)).reason == "BELOW_MARGIN"
    with pytest.raises(ValueError, match="margin is -1"):
        MaxMin(margin=-1)


def test_max_min_without_scores_names_the_way_out() -> None:
    candidates = [candidate("a"), candidate("b")]
    ranks_only = ranking(candidates, [2.0, 1.0]).model_copy(update={"scores": None})
    with pytest.raises(ValueError, match=r"ranks but no scores.*BestVsWorst"):
        list(propose_pairs([(PROMPT, candidates, ranks_only)], MaxMin(), seed=0))


def test_the_probability_and_the_judgements_of_the_ranking_go_along() -> None:
    candidates = [candidate("a"), candidate("b")]
    known = Ranking(
        prompt_id=PROMPT.id,
        candidates=(candidates[0].text_id, candidates[1].text_id),
        ranks=(2, 1),
        probabilities=((None, 0.2), (0.8, None)),
        method="bradley-terry",
        judgement_ids=("j-1",),
    )
    (result,) = propose_pairs([(PROMPT, candidates, known)], BestVsWorst(), seed=0)
    (pair,) = result.proposals
    assert texts_of(result) == [("b", "a")]
    assert (pair.p_chosen, pair.margin, pair.judgement_ids) == (0.8, None, ("j-1",))


def known_ranking(
    candidates: Sequence[Candidate], ranks: Sequence[int], known: dict[tuple[int, int], float]
) -> Ranking:
    """A ranking that knows these probabilities, each with its opposite, and no others."""
    p_of = {**known, **{(two, one): 1 - p for (one, two), p in known.items()}}
    places = range(len(candidates))
    return Ranking(
        prompt_id=PROMPT.id,
        candidates=tuple(candidate.text_id for candidate in candidates),
        ranks=tuple(ranks),
        probabilities=tuple(tuple(p_of.get((one, two)) for two in places) for one in places),
        method="majority",
    )


@pytest.mark.parametrize("strategy", [BestVsWorst(), BestVsRandom(), AllPairs()])
def test_a_pair_that_the_ranking_does_not_know_is_not_made(strategy: PairStrategy) -> None:
    candidates = [candidate(text) for text in "abcd"]
    # a beats b, c beats d; nobody compared the two pairs, whose ranks differ all the same.
    known = known_ranking(candidates, [1, 2, 1, 2], {(0, 1): 0.7, (2, 3): 0.9})
    (result,) = propose_pairs([(PROMPT, candidates, known)], strategy, seed=0)
    assert set(texts_of(result)) <= {("a", "b"), ("c", "d")}
    assert result.proposals


def test_best_vs_worst_takes_the_widest_pair_that_is_known_then_the_likeliest() -> None:
    candidates = [candidate(text) for text in "abcd"]
    # a over d is 3 ranks wide and unknown, a over c and b over d are 2.
    known = {(0, 1): 0.9, (1, 2): 0.9, (2, 3): 0.9, (0, 2): 0.6, (1, 3): 0.8}
    item = (PROMPT, candidates, known_ranking(candidates, [1, 2, 3, 4], known))
    (result,) = propose_pairs([item], BestVsWorst(), seed=0)
    assert texts_of(result) == [("b", "d")]
    assert result.proposals[0].p_chosen == 0.8


def test_a_tie_that_ranks_could_not_keep_is_no_pair() -> None:
    candidates = [candidate(text) for text in "abc"]
    known = known_ranking(candidates, [1, 1, 2], {(0, 2): 0.8, (0, 1): 0.5, (1, 2): 0.5})
    (result,) = propose_pairs([(PROMPT, candidates, known)], AllPairs(), seed=0)
    assert texts_of(result) == [("a", "c")]


def test_ranks_that_no_comparison_backs_are_uncompared() -> None:
    candidates = [candidate(text) for text in "ab"]
    (result,) = propose_pairs(
        [(PROMPT, candidates, known_ranking(candidates, [1, 2], {}))], BestVsWorst(), seed=0
    )
    assert (result.proposals, result.reason) == ([], "UNCOMPARED")
    assert set(result.unused.values()) == {"UNCOMPARED"}


class FirstOverSecond:
    """A strategy that looks at ranks alone."""

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]:
        return [IndexPair(0, 1)]


@pytest.mark.parametrize(("p_better", "shown"), [({}, "unknown"), ({(0, 1): 0.5}, "0.5")])
def test_a_strategy_of_the_users_own_cannot_pair_what_is_not_known(
    p_better: dict[tuple[int, int], float], shown: str
) -> None:
    candidates = [candidate(text) for text in "abc"]
    known = known_ranking(candidates, [1, 2, 2], {**p_better, (0, 2): 0.9})
    with pytest.raises(ValueError, match=f"probability {shown}; expected more than 0.5"):
        list(propose_pairs([(PROMPT, candidates, known)], FirstOverSecond(), seed=0))


class Swaps:
    """A faulty strategy: the worst over the best."""

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]:
        return [IndexPair(ranking.ranks.index(max(ranking.ranks)), ranking.ranks.index(1))]


def test_a_strategy_of_the_users_own_that_swaps_is_refused() -> None:
    with pytest.raises(ValueError, match="Swaps chose a candidate of rank 2 over one of rank 1"):
        propose(["a", "b"], [2, 1], Swaps())


def test_what_belongs_to_another_prompt_is_refused() -> None:
    other = Prompt(messages=(Message(role="user", content="Name a fruit."),))
    strangers = [candidate("a", prompt=other), candidate("b", prompt=other)]
    with pytest.raises(ValueError, match=r"not.*expected the prompt's own candidates"):
        list(propose_pairs([(PROMPT, strangers, None)], AllPairs(), seed=0))
    own = [candidate("a"), candidate("b")]
    with pytest.raises(ValueError, match="is of prompt"):
        list(propose_pairs([(PROMPT, own, ranking(strangers, [2, 1]))], AllPairs(), seed=0))
    with pytest.raises(ValueError, match="not among the prompt's 1 candidates"):
        list(propose_pairs([(PROMPT, own[:1], ranking(own, [2, 1]))], AllPairs(), seed=0))


def test_conversations_that_only_begin_alike_are_two_prompts() -> None:
    def conversation(last: str) -> Prompt:
        said = (("user", "hi"), ("assistant", "a"), ("user", last))
        return Prompt.model_validate(
            {"messages": [{"role": role, "content": content} for role, content in said]}
        )

    assert conversation("q1").id != conversation("q2").id
    assert conversation("q1").id == conversation("q1").id


def test_an_edit_of_an_answer_is_chosen_over_the_answer() -> None:
    answer = candidate("I am SmolLM, a small model.", token_ids=(5, 6), finish_reason="stop")
    (result,) = propose_edits(
        [(PROMPT, [answer])], ReplaceName(old="SmolLM", new="Nova"), "ReplaceName"
    )
    (pair,) = result.proposals
    assert pair.chosen.completion.text == "I am Nova, a small model."
    assert pair.chosen.completion.token_ids is None
    assert pair.chosen.origin.generator == "edit:ReplaceName"
    assert pair.chosen.origin.parent == answer.id
    assert pair.rejected == answer
    assert (pair.strategy, pair.p_chosen, pair.margin) == ("edit:ReplaceName", None, None)
    assert (result.used, result.unused, result.reason) == (1, {}, None)


def test_an_answer_is_chosen_over_an_edit_that_says_it_is_worse() -> None:
    answer = candidate("Blue.", token_ids=(5, 6), finish_reason="stop")
    (result,) = propose_edits([(PROMPT, [answer])], lambda prompt, text: Worse("No."), "worsen")
    (pair,) = result.proposals
    assert pair.chosen == answer
    assert pair.rejected.completion.text == "No."
    assert pair.rejected.completion.token_ids is None
    assert pair.rejected.origin.generator == "edit:worsen"
    assert pair.rejected.origin.parent == answer.id
    assert (pair.strategy, pair.p_chosen, pair.margin) == ("edit:worsen", None, None)
    assert (result.used, result.unused, result.reason) == (1, {}, None)


def test_a_worse_edit_that_changes_nothing_makes_no_pair() -> None:
    answers = [candidate("Blue."), candidate("Red.")]
    (result,) = propose_edits([(PROMPT, answers)], lambda prompt, text: Worse("Red."), "worsen")
    assert texts_of(result) == [("Blue.", "Red.")]
    assert result.unused == {answers[1].id: "EDIT_UNCHANGED"}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True), st.data())
def test_an_edit_never_swaps_the_side_that_it_named(texts: list[str], data: st.DataObject) -> None:
    """Whatever mixture of better, worse and no edits: the better text is chosen, always."""
    worse = {text: data.draw(st.sampled_from([True, False, None])) for text in texts}

    def edit(prompt: Prompt, text: str) -> str | Worse | None:
        if worse[text] is None:
            return None
        return Worse(text + "-") if worse[text] else text + "+"

    (result,) = propose_edits([(PROMPT, [candidate(text) for text in texts])], edit, "mixed")
    expected = {
        (text, text + "-") if worse[text] else (text + "+", text)
        for text in texts
        if worse[text] is not None
    }
    assert set(texts_of(result)) == expected
    assert len(result.proposals) + len(result.unused) == len(texts)


def test_an_edit_that_changes_nothing_is_counted_and_not_paired() -> None:
    answers = [candidate("No name here."), candidate("I am SmolLM.")]
    edit = ReplaceNames({"SmolLM": "Nova"})
    (both,) = propose_edits([(PROMPT, answers)], edit, "names")
    assert texts_of(both) == [("I am Nova.", "I am SmolLM.")]
    assert both.unused == {answers[0].id: "EDIT_UNCHANGED"}
    (none,) = propose_edits([(PROMPT, answers[:1])], edit, "names")
    assert (none.proposals, none.reason) == ([], "EDIT_UNCHANGED")
    (gone,) = propose_edits([(PROMPT, answers)], lambda prompt, text: None, "silent")
    assert (gone.proposals, gone.reason, gone.used) == ([], "EDIT_UNCHANGED", 0)


def proposal(chosen: str, rejected: str) -> PairProposal:
    return PairProposal(
        prompt=PROMPT, chosen=candidate(chosen), rejected=candidate(rejected), strategy="AllPairs"
    )


def without_thoughts(prompt: Prompt, text: str) -> str:
    return text.rpartition("</think>")[2]


def test_a_name_is_replaced_as_a_whole_word_only() -> None:
    edit = ReplaceName(old="Smol", new="Nova")
    assert edit(PROMPT, "Smol, Smol's and Smollest") == "Nova, Nova's and Smollest"


def test_a_name_with_signs_of_a_pattern_is_plain_text() -> None:
    assert ReplaceName(old="C++ (bot)", new="Nova")(PROMPT, "I am C++ (bot).") == "I am Nova."


def test_the_longer_spelling_goes_first() -> None:
    edit = ReplaceName(old=["SmolLM", "SmolLM 2"], new="Nova")
    assert edit(PROMPT, "I am SmolLM 2, not SmolLM.") == "I am Nova, not Nova."


def test_name_and_maker_change_together_whatever_the_case() -> None:
    edit = ReplaceNames({"SmolLM": "Nova", "Hugging Face": "Acme"}, ignore_case=True)
    assert edit(PROMPT, "smollm by HUGGING FACE") == "Nova by Acme"


def test_no_name_to_replace_is_refused() -> None:
    with pytest.raises(ValueError, match="names to replace are empty"):
        ReplaceName(old="", new="Nova")


def test_an_augmentation_is_drawn_for_the_pair_and_never_for_a_side() -> None:
    pairs = [
        proposal(f"<think>a</think>{n}", f"<think>b</think>{n + 1}") for n in range(0, 2000, 2)
    ]
    changed = list(augment(pairs, without_thoughts, "no-thoughts", share=0.8, seed=0))
    kept = [
        ["<think>" in side.completion.text for side in (pair.chosen, pair.rejected)]
        for pair in changed
    ]
    assert all(chosen == rejected for chosen, rejected in kept)
    # 1000 draws at 0.2: four standard deviations are 0.05.
    assert abs(sum(chosen for chosen, _ in kept) / 1000 - 0.2) < 0.05


def test_an_augmentation_does_not_depend_on_the_other_pairs() -> None:
    pairs = [proposal(f"<think>a</think>{n}", f"<think>b</think>-{n}") for n in range(20)]
    forward = list(augment(pairs, without_thoughts, "x", share=0.5, seed=3))
    backward = list(augment(pairs[::-1], without_thoughts, "x", share=0.5, seed=3))
    assert forward == backward[::-1]


def test_a_side_that_cannot_be_augmented_keeps_the_pair_as_it_is() -> None:
    def only_thoughts(prompt: Prompt, text: str) -> str | None:
        return without_thoughts(prompt, text) if "<think>" in text else None

    pair = proposal("<think>a</think>yes", "no")
    assert list(augment([pair], only_thoughts, "x", share=1.0, seed=0)) == [pair]


def test_an_augmented_side_names_its_parent() -> None:
    pair = proposal("<think>a</think>yes", "no")
    (changed,) = augment([pair], without_thoughts, "no-thoughts", share=1.0, seed=0)
    assert changed.chosen.completion.text == "yes"
    assert changed.chosen.origin.parent == pair.chosen.id
    assert changed.rejected == pair.rejected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("I am \u017fmol.", "I am Nova."), ("SMOL!", "Nova!"), ("我是Smol。", "我是Nova。")],
)
def test_a_name_is_met_in_any_case_that_it_can_be_written_in(text: str, expected: str) -> None:
    assert ReplaceName(old="smol", new="Nova", ignore_case=True)(PROMPT, text) == expected


@pytest.mark.parametrize("names", [{"a": 5}, {5: "a"}, ["a"]])
def test_names_that_are_no_texts_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="a name to replace is"):
        ReplaceNames(names)
    with pytest.raises(ValueError, match="a name to replace is 5"):
        ReplaceName(old=5, new="Nova")  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", ["1e-3", True, float("nan")])
def test_a_margin_that_is_no_number_is_refused(margin: Any) -> None:
    with pytest.raises(ValueError, match=r"MaxMin: margin is .*; expected a finite number"):
        MaxMin(margin=margin)


@pytest.mark.parametrize("given", [None, 5, [0, 1], [(0.0, 1.0)], [("a", "b")], [(0, 1, 2)]])
def test_a_strategy_that_gives_no_positions_is_named(given: Any) -> None:
    def mine(prompt: Any, candidates: Any, ranking: Any, rng: Any) -> Any:
        return given

    candidates = [candidate("a"), candidate("b")]
    with pytest.raises(ValueError, match=r"strategy mine, prompt 'p-.*its code has to be mended"):
        list(propose_pairs([(PROMPT, candidates, ranking(candidates, (1, 2)))], mine, seed=0))


@pytest.mark.parametrize("given", [5, b"x", ["x"], Worse(5)])  # type: ignore[arg-type]
def test_an_edit_that_gives_no_text_is_named(given: Any) -> None:
    with pytest.raises(ValueError, match=r"edit 'mine', prompt 'p-.*expected a text"):
        list(propose_edits([(PROMPT, [candidate("a")])], lambda *_: given, "mine"))


def test_a_fault_in_the_code_of_an_edit_is_told_as_such() -> None:
    def mine(prompt: Prompt, text: str) -> str:
        return {"a": "b"}[text]

    with pytest.raises(ValueError, match=r"edit 'mine'.*KeyError: 'c'; its code has to be mended"):
        list(propose_edits([(PROMPT, [candidate("c")])], mine, "mine"))
