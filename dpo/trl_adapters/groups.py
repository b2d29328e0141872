"""TRL's GRPO trainer on our prompts, our samples and our rewards.

TRL's loss, optimiser loop and checkpoints are used as they are; what it learns from is made here,
in place of its `_generate_and_score_completions`:

- Prompts are the tokens of our `ChatTemplate`, and answers end and decode as in
  `curation.generators`, so that a reward sees the same text as anywhere on the road.
- Rewards are scored and summed before TRL sees anything, groups are whole whichever processes
  sampled them, and an answer that nobody judged is left out of its group.
- Sampling has a seed of its own, made from the run's seed, the step and the process, and its
  distribution is all in the arguments: nothing comes from the model's generation file. It is done
  without dropout, as is the measuring of log-probs.
- The reference is the policy as it started. TRL would load it from the model's path again, without
  an adapter that was merged into it.
- Positions are counted from a row's first token. TRL leaves them out, and a model with absolute
  positions then sees a left-padded row's text moved to the right.
- The head sees the positions alone that foretell an answer's tokens, where TRL would run it over
  prompts and padding too.
- Each epoch's order depends on seed and epoch alone, so that a resumed run has it too.

Log-probs, entropy and KL are those of the policy at the sampling temperature, as in TRL's loss: the
distribution that sampled, apart from top_p, top_k, min_p and repetition_penalty.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from transformers import GenerationConfig, PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head, pad

from curation.chat import ChatTemplate
from curation.generators import completion_of, own_settings
from dpo.group_rollouts import (
    Sample,
    Sampled,
    Update,
    advantages,
    in_order,
    rollouts_of,
    step_of,
)
from dpo.grpo_args import prompts_a_step, updates_a_step
from dpo.online import OnlineStep, Rollout
from dpo.policy import FrozenStart, without_rename_warnings
from dpo.rollouts import Scored
from dpo.trl_adapters.group_order import GroupOrder, WholeSteps
from dpo.trl_adapters.shared import EpochOrder, SealedTrainer, check_head
from schemas.records import Completion, Prompt, content_hash

Score = Callable[[Sequence[Prompt], Sequence[Completion]], Scored]
HeldOut = Callable[[Any, int, AbstractContextManager[None]], float | None]


class GroupTrainer(SealedTrainer, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer on our prompts, our samples and our rewards."""

    def __init__(
        self,
        model: Any,
        args: GRPOConfig,
        prompts: Sequence[Prompt],
        chat: ChatTemplate,
        score: Score,
        *,
        reference: FrozenStart,
        tokens: int = 0,
        held_out: HeldOut = lambda model, step, autocast: None,
        on_step: Callable[[OnlineStep, list[Rollout], int], str | None] = lambda *step: None,
        before_save: Callable[[], None] = lambda: None,
        after_save: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Train `model`, which carries its adapter where it has one, on answers to the prompts.

        score: called in every process with whole groups, each group in one process.
        tokens: sampled before this process began, by the run that it resumes.
        held_out: the reward on held-out prompts of the model that samples a step, which is to
            sample within the scope that comes with it; in every process.
        on_step: given the step, its rollouts and how many steps there are; what it returns ends the
            training. It and before_save are called in every process, after_save in the first.
        """
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._chat = chat
        self._score = score
        self._tokens = tokens
        self._held_out = held_out
        self._on_step = on_step
        self.before_save, self.after_save = before_save, after_save
        self._sampled: Sampled | None = None
        self._updates: list[Update] = []
        self._updates_a_step = updates_a_step(args)
        self.order = GroupOrder(
            len(prompts),
            batch=prompts_a_step(args),
            group=args.num_generations,
            repeats=args.steps_per_generation * args.num_iterations,
            seed=args.seed,
            shuffle=args.shuffle_dataset,
        )
        beta, args.beta = args.beta, 0.0  # so that TRL makes no reference of its own
        with without_rename_warnings():
            super().__init__(
                model=model,
                reward_funcs=[_unused],
                args=args,
                train_dataset=Dataset.from_list([{"prompt_id": prompt.id} for prompt in prompts]),
                processing_class=chat.tokenizer,
                callbacks=[EpochOrder(self.order), WholeSteps(self._updates_a_step)],
            )
        self.remove_callback(PrinterCallback)
        self.beta = args.beta = beta
        check_head(self.model, chat.prompt_ids(prompts[0]), args, temperature=self.temperature)
        self._kept: int | None = None
        self._keep_completions(model)
        self._reference = reference
        with reference.weights() as start:
            if start is not model:
                self._keep_completions(start)
                start.to(args.device).eval()
                add_fused_lm_head(
                    start,
                    temperature=self.temperature,
                    cast_lm_head_to_fp32=args.cast_lm_head_to_fp32,
                )
        self.generation_config = GenerationConfig(
            do_sample=True,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            min_p=args.min_p,
            repetition_penalty=args.repetition_penalty,
            max_new_tokens=args.max_completion_length,
            cache_implementation=args.cache_implementation,
            eos_token_id=sorted(chat.eos_ids),
            pad_token_id=chat.tokenizer.pad_token_id,
        )

    @property
    def steps(self) -> int:
        """How many times rollouts are sampled in the whole training."""
        return int(self.state.max_steps) // self._updates_a_step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """This process's share of a step's rollouts, as TRL's loss takes them."""
        step = self.state.global_step // self._updates_a_step + 1
        prompts = [self._prompts[row["prompt_id"]] for row in inputs]
        self.model.eval()
        try:
            model = self.accelerator.unwrap_model(self.model)
            held_out_reward = self._held_out(model, step, self.accelerator.autocast())
            token_ids = self._sample([self._chat.prompt_ids(prompt) for prompt in prompts], step)
            completions = [
                completion_of(self._chat, prompt, ids)
                for prompt, ids in zip(prompts, token_ids, strict=True)
            ]
            batch = self._padded(prompts, completions)
            logps, entropies, ref_logps = self._measured(batch)
        finally:
            self.model.train()
        mask = batch["completion_mask"]
        kl = ((logps - ref_logps) * mask).sum(dim=1).tolist()
        entropy = (entropies * mask).sum(dim=1).tolist()
        mine = [
            Sample(prompt.id, completion, len(completion.token_ids or ()), *figures)
            for prompt, completion, *figures in zip(prompts, completions, kl, entropy, strict=True)
        ]
        samples = gather_object(mine)
        scored = self._scored(samples)
        rewards = [float("nan") if score is None else score for score in scored.totals]
        rewards_PG = torch.tensor(rewards, dtype=torch.float64).view(-1, self.num_generations)  # noqa: N806
        advantages_PG = advantages(rewards_PG, self.scale_rewards)  # noqa: N806
        self._sampled = Sampled(step, samples, scored, advantages_PG, held_out_reward)
        first = self.accelerator.process_index * len(prompts)
        own = advantages_PG.flatten()[first : first + len(prompts)]
        batch["advantages"] = own.to(device=logps.device, dtype=logps.dtype)
        if self.mask_truncated_completions:
            whole = [completion.finish_reason != "length" for completion in completions]
            batch["completion_mask"] = mask * torch.tensor(whole, device=mask.device).unsqueeze(1)
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        if self._updates_a_step > 1:
            batch["old_per_token_logps"] = logps
        if self.beta:
            batch["ref_per_token_logps"] = ref_logps
        return batch

    def _sample(self, prompt_ids: Sequence[list[int]], step: int) -> list[list[int]]:
        """One answer a row, with whatever padding follows its end."""
        rows = [torch.tensor(ids) for ids in prompt_ids]
        inputs = {
            "input_ids": pad(rows, self.generation_config.pad_token_id, padding_side="left"),
            "attention_mask": pad([torch.ones_like(row) for row in rows], 0, padding_side="left"),
        }
        inputs = {name: tensor.to(self.args.device) for name, tensor in inputs.items()}
        model = self.accelerator.unwrap_model(self.model)
        seed = int(content_hash(self.args.seed, step, self.accelerator.process_index)[:15], 16)
        with own_settings(model, seed), self.accelerator.autocast():
            output = model.generate(**inputs, generation_config=self.generation_config)
        sampled: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
        return sampled

    def _padded(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> dict[str, Tensor]:
        """Prompts padded on the left, completions on the right, and the masks of both."""

        def padded(rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
            tensors = [torch.tensor(row) for row in rows]
            ones = [torch.ones_like(tensor) for tensor in tensors]
            fill, multiple = self.generation_config.pad_token_id, self.pad_to_multiple_of
            ids, mask = (
                pad(of, value, padding_side=side, pad_to_multiple_of=multiple).to(self.args.device)
                for of, value in ((tensors, fill), (ones, 0))
            )
            return ids, mask

        prompt_ids, prompt_mask = padded([self._chat.prompt_ids(p) for p in prompts], "left")
        completion_ids, completion_mask = padded([c.token_ids or () for c in completions], "right")
        return {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": completion_ids,
            "completion_mask": completion_mask,
        }

    def _measured(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probs and entropies of the policy, and log-probs of the reference; each (B, T)."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        kept, size = batch["completion_ids"].shape[1], self.args.per_device_train_batch_size

        def measure(model: Any, compute_entropy: bool) -> tuple[Tensor, Tensor, Any]:
            return self._get_per_token_logps_and_entropies(
                model, ids, mask, kept, batch_size=size, compute_entropy=compute_entropy
            )

        with torch.no_grad():
            logps, entropies, _ = measure(self.model, True)
            with self._reference.weights() as start:
                ref_logps, _, _ = measure(start, False)
        return logps, entropies, ref_logps

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: None,
    ) -> tuple[Tensor, Any, Any]:
        """Log-probs and entropies of the completions' tokens, (B, T), at sampling temperature."""
        options: dict[str, Any] = {"output_router_logits": True} if compute_aux_loss else {}
        labels = input_ids.masked_fill(attention_mask == 0, -100)[:, -logits_to_keep - 1 :]
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        parts = []
        size = batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            if self._takes_positions:
                options["position_ids"] = positions[rows]
            self._kept = logits_to_keep
            try:
                with self.accelerator.autocast():
                    part = model(
                        input_ids=input_ids[rows],
                        attention_mask=attention_mask[rows],
                        labels=labels[rows],
                        fused_lm_head=True,
                        **options,
                    )
            finally:
                self._kept = None
            parts.append(part)
        logps = torch.cat([part.log_probs for part in parts])
        entropies = aux_loss = None
        if compute_entropy:
            entropies = torch.cat([part.entropy for part in parts])
        if compute_aux_loss:
            aux_loss = torch.stack([part.aux_loss for part in parts]).mean()
        return logps, entropies, aux_loss

    @property
    def _takes_positions(self) -> bool:
        backbone = _backbone(self.accelerator.unwrap_model(self.model))
        return "position_ids" in inspect.signature(backbone.forward).parameters

    def _keep_completions(self, model: Any) -> None:
        """Have the head see the last positions alone while log-probs are computed.

        TRL does so by itself where there is Triton, and then for answers shorter than the longest.
        """

        def kept(module: Any, inputs: Any, output: Any) -> Any:
            if self._kept is not None:
                output.last_hidden_state = output.last_hidden_state[:, -self._kept - 1 :]
            return output

        _backbone(model).register_forward_hook(kept)

    def _scored(self, samples: Sequence[Sample]) -> Scored:
        """What all processes' rollouts are worth; each process scores its share of the groups."""
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        groups = len(samples) // self.num_generations
        mine = [
            row
            for group in range(own, groups, processes)
            for row in range(group * self.num_generations, (group + 1) * self.num_generations)
        ]
        parts: list[tuple[list[int], Scored]] = []
        if mine:
            prompts = [self._prompts[samples[row].prompt_id] for row in mine]
            completions = [samples[row].completion for row in mine]
            parts = [(mine, self._score(prompts, completions))]
        return in_order(gather_object(parts))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._sampled is not None:
            clipped = self._metrics["train"].get("clip_ratio/region_mean")
            update = Update(
                logs["loss"],
                logs["grad_norm"],
                logs["learning_rate"],
                fmean(clipped) if clipped else None,
            )
            self._updates.append(update)
            if len(self._updates) == self._updates_a_step:
                self._finish(self._sampled)
        super().log(logs, start_time)

    def _finish(self, sampled: Sampled) -> None:
        """Hand on the step, now that its rollouts are learned from."""
        self._tokens += sum(sample.tokens for sample in sampled.samples)
        step = step_of(sampled, self._updates, self._tokens)
        self._updates = []
        if self._on_step(step, rollouts_of(sampled), self.steps) is not None:
            self.control.should_training_stop = True


def _backbone(model: Any) -> Any:
    """The model without its head, under whatever adapter."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.base_model


def _unused(**columns: Any) -> list[float]:
    raise RuntimeError("TRL scores nothing: rewards are scored before it sees them")
