"""Sampling from a real (tiny) model: padding, settings, resume, and what a candidate remembers."""

import logging
import random
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.generators import TransformersGenerator, completion_of
from curation.models import load_chat, load_policy
from schemas.configs import ModelConfig, SamplingConfig
from schemas.records import Message, Prompt

SHORT = SamplingConfig(temperature=1.0, max_new_tokens=12)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=12)


def prompt(text: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


PROMPTS = [prompt("go " * length) for length in (1, 9, 3, 7, 5, 2, 8)]


def sample(policy, prompts=PROMPTS, *, sampling=SHORT, n=3, batch_size=6, seed=0):
    generator = TransformersGenerator(policy, sampling, batch_size=batch_size, seed=seed)
    return {asked.id: found for asked, found in generator.generate(prompts, n=n)}


def test_a_padded_batch_answers_as_each_prompt_alone_does(tiny_policy):
    together = sample(tiny_policy, sampling=GREEDY, n=1, batch_size=7)
    for alone in PROMPTS:
        assert together[alone.id] == sample(tiny_policy, [alone], sampling=GREEDY, n=1)[alone.id]


def test_equal_answers_of_a_prompt_count_once(tiny_policy):
    for candidates in sample(tiny_policy, sampling=GREEDY, n=3).values():
        (only,) = candidates
        assert (only.count, only.origin.index) == (3, 0)


def test_every_sample_is_accounted_for_and_distinct(tiny_policy):
    for candidates in sample(tiny_policy, n=5, batch_size=4).values():
        assert sum(candidate.count for candidate in candidates) == 5
        assert len({candidate.text_id for candidate in candidates}) == len(candidates)


def test_the_order_of_the_input_does_not_matter(tiny_policy):
    shuffled = random.Random(1).sample(PROMPTS, len(PROMPTS))
    assert sample(tiny_policy, shuffled) == sample(tiny_policy)


def test_batches_sampled_apart_and_in_any_order_give_the_run_in_one_go(tiny_policy):
    whole = sample(tiny_policy)
    generator = TransformersGenerator(tiny_policy, SHORT, batch_size=6, seed=0)
    batches = generator.plan(PROMPTS, n=3)
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    apart = {}
    for batch in reversed(batches):
        apart.update((asked.id, found) for asked, found in generator.generate(batch, n=3))
    assert apart == whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(st.text("ab ", max_size=9), min_size=1, max_size=12, unique=True),
    batch_size=st.integers(1, 6),
    cut=st.integers(0, 6),
)
def test_a_run_of_planned_batches_plans_into_itself(tiny_policy, texts, batch_size, cut):
    generator = TransformersGenerator(tiny_policy, SHORT, batch_size=batch_size, seed=0)
    batches = generator.plan([prompt(text) for text in texts], n=2)
    part = batches[cut : cut + 2]
    assert generator.plan([asked for batch in part for asked in batch], n=2) == part


def test_another_seed_gives_other_samples_and_other_ids(tiny_policy):
    first, second = sample(tiny_policy, seed=0), sample(tiny_policy, seed=1)
    ids = [{c.id for found in run.values() for c in found} for run in (first, second)]
    assert not ids[0] & ids[1]
    assert first != second


def test_sampling_leaves_the_callers_random_state_alone(tiny_policy):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    sample(tiny_policy)
    assert torch.equal(torch.rand(1), expected)


def test_nothing_is_inherited_from_the_models_generation_file(tiny_policy):
    from transformers import GenerationConfig

    before = sample(tiny_policy)
    kept = tiny_policy.model.generation_config
    tiny_policy.model.generation_config = GenerationConfig(
        temperature=0.6, top_p=0.2, top_k=2, repetition_penalty=3.0, bad_words_ids=[[5]]
    )
    try:
        assert sample(tiny_policy) == before
        assert tiny_policy.model.generation_config.top_k == 2
    finally:
        tiny_policy.model.generation_config = kept


def test_a_candidate_remembers_every_setting_it_was_sampled_with(tiny_policy):
    candidate = next(iter(sample(tiny_policy).values()))[0]
    assert candidate.origin.sampling == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_new_tokens": 12,
    }
    assert candidate.origin.weights == tiny_policy.weights
    assert candidate.origin.template == tiny_policy.chat.hash
    assert candidate.origin.seed == 0


def test_a_whole_answer_ends_in_eos_and_a_cut_one_is_marked(tiny_policy):
    sampling = SamplingConfig(max_new_tokens=60)
    candidates = [
        candidate
        for found in sample(tiny_policy, sampling=sampling, n=8, batch_size=64).values()
        for candidate in found
    ]
    eos = tiny_policy.chat.eos_ids
    reasons = set()
    for candidate in candidates:
        ids = candidate.completion.token_ids
        reasons.add(candidate.completion.finish_reason)
        if candidate.completion.finish_reason == "stop":
            assert ids[-1] in eos
            assert not eos & set(ids[:-1])
        else:
            assert len(ids) == 60
            assert not eos & set(ids)
        end = -1 if ids[-1] in eos else None
        assert candidate.completion.text == tiny_policy.tokenizer.decode(ids[:end])
    assert reasons == {"stop", "length"}


def test_a_prompt_that_ends_in_the_pad_token_keeps_its_attention(tiny_policy):
    tokenizer = tiny_policy.tokenizer
    pad, tokenizer.pad_token = tokenizer.pad_token, tokenizer.eos_token
    try:
        generator = TransformersGenerator(tiny_policy, SHORT, batch_size=4, seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            inputs = generator._left_padded([prompt("a"), prompt("a longer one")])
            list(generator.generate([prompt("a"), prompt("a longer one")], n=2))
    finally:
        tokenizer.pad_token = pad
    short, long = inputs["attention_mask"].tolist()
    assert set(long) == {1}
    assert short == [0] * (len(short) - sum(short)) + [1] * sum(short)


def test_a_prompt_that_does_not_fit_the_model_is_named(tiny_policy):
    with pytest.raises(ValueError, match="does not fit the model's"):
        sample(tiny_policy, [prompt("very long " * 600)])


def test_a_prompt_whose_last_token_is_the_pad_token_is_no_padding(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    )
    policy = load_policy(ModelConfig(path=str(tiny_model_folder), chat_template=template))
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    prompts = [prompt("a"), prompt("a longer one")]
    assert policy.chat.prompt_ids(prompts[0])[-1] == policy.tokenizer.pad_token_id
    heard: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = heard.append
    logging.getLogger("transformers").addHandler(listener)
    try:
        together = sample(policy, prompts, sampling=GREEDY, n=1)
    finally:
        logging.getLogger("transformers").removeHandler(listener)
    assert not heard
    for asked in prompts:
        assert sample(policy, [asked], sampling=GREEDY, n=1)[asked.id] == together[asked.id]


def test_samples_are_all_there_with_the_tokens_of_the_distinct_candidates(tiny_policy):
    generator = TransformersGenerator(tiny_policy, SHORT, batch_size=64, seed=0)
    batch = generator.plan(PROMPTS, n=5)[0]
    drawn = dict(zip((asked.id for asked in batch), generator.samples(batch, n=5), strict=True))
    for asked, candidates in generator.generate(PROMPTS, n=5):
        assert len(drawn[asked.id]) == 5
        for candidate in candidates:
            assert drawn[asked.id][candidate.origin.index] == candidate.completion
            same = [drawn_one.messages for drawn_one in drawn[asked.id]]
            assert same.count(candidate.completion.messages) == candidate.count


def test_a_prompt_asked_twice_in_a_batch_is_sampled_twice(tiny_policy):
    generator = TransformersGenerator(tiny_policy, SHORT, batch_size=8, seed=0)
    first, second = generator.samples([PROMPTS[0]] * 2, n=2)
    assert len({answer.token_ids for answer in first + second}) == 4


def test_an_answer_ends_at_its_first_end_and_padding_is_no_part_of_it(tiny_policy):
    asked, eos = PROMPTS[0], tiny_policy.tokenizer.eos_token_id
    a, b = tiny_policy.tokenizer.encode("a b")[:2]
    ended = completion_of(tiny_policy.chat, asked, [a, b, eos, eos, 3])
    assert (ended.token_ids, ended.finish_reason, ended.text) == ((a, b, eos), "stop", "a b")
    cut = completion_of(tiny_policy.chat, asked, [a, b])
    assert (cut.token_ids, cut.finish_reason, cut.text) == ((a, b), "length", "a b")
    empty = completion_of(tiny_policy.chat, asked, [eos])
    assert (empty.token_ids, empty.finish_reason, empty.text) == ((eos,), "stop", "")


def test_an_answer_ends_with_the_templates_own_ending_too(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = load_chat(ModelConfig(path=str(tiny_model_folder), chat_template=template))
    end = chat.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end != chat.tokenizer.eos_token_id
    ended = completion_of(chat, PROMPTS[0], [40, end, 3, 3])
    assert (ended.token_ids, ended.finish_reason) == ((40, end), "stop")
