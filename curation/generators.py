"""Candidates from a transformers model: batched by length, left-padded, the same on every re-run.

Every batch is planned over the whole input and has a seed of its own, made from the run's seed and
the prompts in it. So a resumed or sharded run computes the very batches of an uninterrupted one,
and the order in which they are computed does not matter.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from curation.chat import ChatTemplate
from curation.models import Policy
from schemas.configs import SamplingConfig
from schemas.records import Candidate, Completion, Origin, Prompt, content_hash

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel


class TransformersGenerator:
    """Samples from a policy with explicit settings; a `Generator`."""

    def __init__(
        self, policy: Policy, sampling: SamplingConfig, *, batch_size: int, seed: int
    ) -> None:
        self._policy = policy
        self._sampling = SamplingConfig(**sampling.model_dump(include=_SAMPLING_KEYS))
        self._batch_size = batch_size
        self._seed = seed

    def plan(self, prompts: Iterable[Prompt], *, n: int) -> list[list[Prompt]]:
        """The batches in which these prompts are sampled, shortest prompts first.

        A prompt whose n samples alone fill a batch has one to itself.
        """
        ids = self._policy.chat.prompt_ids
        by_length = sorted(prompts, key=lambda prompt: (len(ids(prompt)), prompt.id))
        size = max(1, self._batch_size // n)
        return [by_length[start : start + size] for start in range(0, len(by_length), size)]

    def generate(
        self, prompts: Iterable[Prompt], *, n: int
    ) -> Iterator[tuple[Prompt, list[Candidate]]]:
        """Each prompt with its distinct candidates; equal contents count once, in `count`."""
        for batch in self.plan(prompts, n=n):
            for prompt, completions in zip(batch, self.samples(batch, n=n), strict=True):
                yield prompt, self._distinct(prompt, completions)

    def samples(self, batch: Sequence[Prompt], *, n: int) -> list[list[Completion]]:
        """Each prompt's n samples, equal ones too, decoded as one batch."""
        model = self._policy.model
        seed = int(content_hash(self._seed, [prompt.id for prompt in batch], n)[:15], 16)
        completions: list[list[Completion]] = [[] for _ in batch]
        inputs = self._left_padded(batch)
        with own_settings(model, seed):
            for round_size in self._rounds(n):
                config = self._generation_config(num_return_sequences=round_size)
                output = model.generate(**inputs, generation_config=config)
                sampled = output[:, inputs["input_ids"].shape[1] :].tolist()
                for row, token_ids in enumerate(sampled):
                    which = row // round_size
                    answer = completion_of(self._policy.chat, batch[which], token_ids)
                    completions[which].append(answer)
        repeats = n if self._greedy else 1
        return [answers * repeats for answers in completions]

    def check_fits(self, prompts: Iterable[Prompt]) -> None:
        """Return if the model has positions for each prompt and its longest answer.

        Raises:
            ValueError: it has not.
            TemplateError: the template does not render a prompt.
        """
        limit = getattr(self._policy.model.config, "max_position_embeddings", None)
        for prompt in prompts:
            length = len(self._policy.chat.prompt_ids(prompt))
            if limit is not None and length + self._sampling.max_new_tokens > limit:
                raise ValueError(
                    f"prompt '{prompt.id}' has {length} tokens; with max_new_tokens "
                    f"{self._sampling.max_new_tokens} it does not fit the model's {limit} positions"
                )

    @property
    def _greedy(self) -> bool:
        return self._sampling.temperature == 0

    def _rounds(self, n: int) -> list[int]:
        """n samples a prompt as rounds of at most a batch; greedy decoding needs only one."""
        if self._greedy:
            return [1]
        full, rest = divmod(n, self._batch_size)
        return [self._batch_size] * full + [rest] * (rest > 0)

    def _left_padded(self, batch: Sequence[Prompt]) -> dict[str, "torch.Tensor"]:
        """`input_ids` and `attention_mask`, (B, T); the mask is explicit because pad may be EOS."""
        import torch

        self.check_fits(batch)
        rows = [self._policy.chat.prompt_ids(prompt) for prompt in batch]
        longest = max(map(len, rows))
        pad = self._policy.tokenizer.pad_token_id
        device = self._policy.model.device
        padded = [[pad] * (longest - len(row)) + row for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        return {
            "input_ids": torch.tensor(padded, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }

    def _generation_config(self, *, num_return_sequences: int) -> "GenerationConfig":
        """The settings in full; top_k must be written out, as its default is 50."""
        from transformers import GenerationConfig

        sampling = self._sampling
        return GenerationConfig(
            do_sample=not self._greedy,
            temperature=1.0 if self._greedy else sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=num_return_sequences,
            eos_token_id=sorted(self._policy.chat.eos_ids),
            pad_token_id=self._policy.tokenizer.pad_token_id,
        )

    def _distinct(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Candidate]:
        counts: dict[str, int] = {}
        first: dict[str, tuple[int, Completion]] = {}
        for index, completion in enumerate(completions):
            content = content_hash(completion.message_dicts())
            counts[content] = counts.get(content, 0) + 1
            first.setdefault(content, (index, completion))
        return [
            Candidate(
                prompt_id=prompt.id,
                completion=completion,
                origin=self._origin(index),
                count=counts[content],
            )
            for content, (index, completion) in first.items()
        ]

    def _origin(self, index: int) -> Origin:
        return Origin(
            generator="transformers",
            model=self._policy.name,
            weights=self._policy.weights,
            template=self._policy.chat.hash,
            sampling=self._sampling.model_dump(),
            seed=self._seed,
            index=index,
        )


def completion_of(chat: ChatTemplate, prompt: Prompt, token_ids: Sequence[int]) -> Completion:
    """The sampled answer up to its first EOS; without one it was cut off at the limit.

    What follows the EOS, such as padding, is no part of it. Whoever samples makes completions here,
    so that the same tokens are the same text to every reward.
    """
    end = next((at for at, token in enumerate(token_ids) if token in chat.eos_ids), None)
    kept = token_ids if end is None else token_ids[: end + 1]
    text = chat.tokenizer.decode(
        list(token_ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return chat.completion(
        prompt, str(text), token_ids=kept, finish_reason="length" if end is None else "stop"
    )


_SAMPLING_KEYS = set(SamplingConfig.model_fields)


@contextlib.contextmanager
def own_settings(model: "PreTrainedModel", seed: int) -> Iterator[None]:
    """A scope in which sampling sees neither the model's generation file nor outside randomness.

    transformers fills every setting that a call leaves open from `model.generation_config`.
    """
    import torch
    from transformers import GenerationConfig

    from_files, model.generation_config = model.generation_config, GenerationConfig()
    try:
        # The model's own device alone: torch warns of each run on a machine with more of them.
        used = [model.device] if model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(used):
            torch.manual_seed(seed)
            yield
    finally:
        model.generation_config = from_files
