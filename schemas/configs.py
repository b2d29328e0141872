"""One frozen model a stage, checked before any model loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

ANNOTATIONS = Path("annotations")
"""Where people's answers are kept unless the config says otherwise: beside `runs/`."""


class Section(BaseModel):
    """A part of the config; unknown keys are an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class ModelConfig(Section):
    """The SFT model: what samples the candidates and what DPO starts from."""

    path: str
    """A folder, a hub name, or `smollm2-135m-instruct` (the model the demo bundles)."""
    revision: str | None = None
    """Of a hub name: a branch, tag or commit."""
    adapter: str | None = None
    """A folder with a trained LoRA adapter that belongs to the SFT model."""
    chat_template: Path | None = None
    """A Jinja file, for a model that has no template of its own."""
    system_role: Literal["error", "merge"] = "error"
    """Where the template refuses a system role: refuse, or merge it into the first user turn."""
    date: str = "2026-01-01"
    """What a template that writes today's date is given, so that a prompt renders alike always."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: float32 on a CPU, bfloat16 on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


class PromptSource(Section):
    """Where prompts come from: a JSONL, Parquet or CSV file, or a `datasets` name or folder."""

    path: str
    """The file, the folder, or the name."""
    split: str = "train"
    """For a `datasets` name or folder."""
    column: str | None = None
    """The prompt's column; default: messages, prompt, conversations, question, text or turns."""
    tags: tuple[str, ...] = ()
    """Given to each of its prompts, besides their own."""
    tag_columns: tuple[str, ...] = ()
    """Columns whose value becomes a tag with the column's name: `lang:de`."""
    only_tags: tuple[str, ...] = ()
    """Take only the rows that have one of these tags; `limit` counts the rows taken."""
    licence: str | None = None
    """Of its prompts, where their rows do not say; the dataset card names it."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many rows."""

    @model_serializer(mode="wrap")
    def _without_unused_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs made before these keys existed stay as valid as they were."""
        later = {"tag_columns", "only_tags"}
        return {key: value for key, value in dump(self).items() if value or key not in later}


def _one_source_is_a_list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"'{value}' stands alone; expected `path: {value}`, or a list of such")
    return [value] if isinstance(value, Mapping) else value


PromptSources = Annotated[tuple[PromptSource, ...], BeforeValidator(_one_source_is_a_list)]


class SamplingConfig(Section):
    """Every sampling setting, each neutral unless written; nothing comes from the model's files."""

    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens that together have this probability; 1 keeps all."""
    top_k: int = Field(default=0, ge=0)
    """0 keeps every token."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Drop tokens less likely than this share of the likeliest one; 0 keeps all."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens that were said already become less likely."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Where an answer is cut off."""


class EndpointConfig(Section):
    """A server that speaks OpenAI's chat completions: vLLM, llama.cpp, a hosted model."""

    base_url: str
    """Up to and with `/v1`."""
    model: str
    """What the server calls the model."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; a server without keys needs none."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight."""
    requests_a_minute: float | None = Field(default=None, gt=0)
    """Pace; null: as fast as `concurrency` allows."""
    retries: int = Field(default=5, ge=0)
    """Of a request that was refused for its rate, timed out or met a failing server."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds a request may take."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Budget: tokens, prompt and completion, after which no further request is sent."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further keys of the request's body, as this server takes them."""


class GenerateConfig(SamplingConfig):
    endpoint: EndpointConfig | None = None
    """Sample from a server instead of loading `model`; its template then renders there."""
    n: int = Field(default=4, ge=1)
    """Samples a prompt."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences that are decoded together; part of what makes a run repeatable."""
    batches_a_part: int = Field(default=4, ge=1)
    """How many batches one committed file holds: what a kill can lose at most."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Of the samples alone; default: the run's seed."""


class RewardConfig(Section):
    """One reward: an object by its path, and what it is built with."""

    use: str
    """`package.module:name`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """What it is built with, by name."""
    weight: float = 1.0
    """Its factor in the sum."""
    name: str | None = None
    """What reports call it; default: the name in `use`."""


class RankConfig(Section):
    rewards: tuple[RewardConfig, ...] = ()
    """Summed by weight."""
    judge: RewardConfig | None = None
    """In place of rewards: what compares answers, such as `curation.judges:PairwiseJudge`."""
    abstain: Literal["renormalise", "abstain"] = "renormalise"
    """When a reward abstains: weigh the others up, or abstain in all."""

    @model_validator(mode="after")
    def _rewards_or_judge(self) -> Self:
        if bool(self.rewards) == (self.judge is not None):
            raise ValueError("expected either rewards or a judge")
        return self


class GoldConfig(Section):
    """Questions whose answer is known, mixed in unseen to measure annotators."""

    path: str
    """A file of preference pairs, as `pairwright validate FILE` reads them."""
    rate: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the records put before annotators that are gold questions."""


class WorkspaceConfig(Section):
    """A group of annotators and what they alone see."""

    annotators: tuple[str, ...] = Field(min_length=1)
    """User names."""
    quota: int | None = Field(default=None, ge=1)
    """At most this many records are put into the workspace; none of its annotators sees more."""


class SimulatedAnnotator(Section):
    """A script in a person's place, for demos and tests; it is called simulated everywhere."""

    name: str
    """The user name; one of a workspace."""
    accuracy: float = Field(default=0.8, ge=0, le=1)
    """Share of answers that are right, where one answer is better."""
    spammer: bool = False
    """Answers A whatever is shown."""


class LabelConfig(Section):
    """What people are asked in Argilla."""

    server: str = "embedded"
    """`embedded`, the server that `pairwright label serve` runs, or the URL of another Argilla;
    the key comes from ARGILLA_API_KEY."""
    dataset: str
    """The dataset's title; its name in the server is made from it."""
    workspaces: dict[str, WorkspaceConfig] = Field(min_length=1)
    """Annotators by workspace; the records are shared out among the workspaces."""
    adjudicators: tuple[str, ...] = ()
    """User names of those whose answer decides where annotators disagree."""
    kind: Literal["pairwise", "ranking"] = "pairwise"
    """Two answers a record, or all distinct answers of a prompt (2 to 6)."""
    pairs_a_prompt: int | None = Field(default=None, ge=1)
    """Pairwise: how many of a prompt's pairs are asked about; default: each."""
    overlap: int = Field(default=3, ge=1)
    """How many people answer each record."""
    enough: float = Field(default=1.0, gt=0, le=1)
    """`run` goes on once this share of the wanted answers is in."""
    criteria: tuple[str, ...] = ()
    """Questions besides the overall one, each kept apart in aggregation."""
    guidelines: Path | None = None
    """A Markdown file that annotators read; default: the project's own."""
    layout: Literal["auto", "side_by_side", "stacked"] = "auto"
    """auto: long answers side by side with their differences marked, short ones stacked."""
    gold: GoldConfig | None = None
    """Questions whose answer is known; default: none."""
    mirror: bool = False
    """Show each pair in both orders, as two records."""
    assisted: bool = False
    """Show the machine ranking before people answer; their answers are marked so."""
    suggest: bool = True
    """Once a record is complete, attach the machine ranking to it where there is one."""
    seconds_an_answer: float = Field(default=40.0, gt=0)
    """For the plan's estimate of hours."""
    annotations: Path = ANNOTATIONS
    """The folder that keeps tasks and answers; it outlives runs."""
    simulated: tuple[SimulatedAnnotator, ...] = ()
    """Scripts that answer in people's place."""


Method = Literal["score", "majority", "dawid-skene", "mace", "bradley-terry"]


class AggregateConfig(Section):
    method: Method | None = None
    """score: by the machine's scores; the others: by people's votes. Default: majority where
    people are asked, else score."""
    question: str = "overall"
    """Which of the questions asked decides: the overall one, or a criterion."""
    min_votes: int = Field(default=1, ge=1)
    """A pair with fewer votes of people concludes nothing, unless an adjudicator ruled."""


class PairConfig(Section):
    strategy: str = "curation.pairs:BestVsWorst"
    """`package.module:name` of a pair strategy."""
    args: dict[str, Any] = Field(default_factory=dict)
    """What the strategy is built with."""
    edit: str | None = None
    """`package.module:name` of an edit of the SFT model's own answers: chosen is the edit, or the
    answer where the edit says that its text is worse."""
    edit_args: dict[str, Any] = Field(default_factory=dict)
    """What the edit is built with."""


class ValidateConfig(Section):
    max_length: int = Field(default=1024, ge=2)
    """Tokens of prompt and completion that the trainer keeps."""
    min_margin: float = Field(default=0.0, ge=0)
    """Pairs with a smaller margin are kept out; those without one pass."""
    test_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of prompt groups whose pairs are held out of training."""
    max_quarantined: float = Field(default=0.5, ge=0, le=1)
    """Share of pairs that may be quarantined before the gate fails."""
    token_checks: bool = True
    """Off: skip the checks that tokenise."""


class LoraConfig(Section):
    r: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    alpha: int = Field(default=32, ge=1)
    """The adapter counts alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that are dropped in training."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers get an adapter."""


class DpoConfig(Section):
    lora: LoraConfig | None = LoraConfig()
    """null trains all weights."""
    confidence: bool = True
    """Let each pair's p_chosen and weight enter the loss."""
    reference: str | None = None
    """Another reference model; default: the SFT model itself."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """TRL's own DPOConfig keys, checked against TRL's class before weights load."""


class ConversationSource(Section):
    """Where SFT rows come from: a JSONL, Parquet or CSV file, or a `datasets` name or folder; a row
    holds messages, or prompt and completion."""

    path: str
    """The file, the folder, or the name."""
    split: str = "train"
    """For a `datasets` name or folder."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many rows."""


ConversationSources = Annotated[
    tuple[ConversationSource, ...], BeforeValidator(_one_source_is_a_list)
]


class SftConfig(Section):
    """Fine-tuning before all else: what it makes is the SFT model of the later stages."""

    data: Annotated[ConversationSources, Field(min_length=1)]
    """The conversations to learn from."""
    lora: LoraConfig | None = LoraConfig()
    """null trains all weights. An adapter is merged, so that the later stages find one model."""
    max_length: int = Field(default=1024, ge=2)
    """Tokens of a row; what is longer is cut."""
    test_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of conversations held out, to measure the loss on."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """TRL's own SFTConfig keys, such as packing."""


class RewardModelConfig(Section):
    """A reward model trained on the run's pairs."""

    base: str | None = None
    """The model it starts from, a folder or hub name; default: the SFT model."""
    lora: LoraConfig | None = LoraConfig()
    """null trains all weights. An adapter is merged into the model that is saved."""
    confidence: bool = True
    """Let each pair's p_chosen and weight enter the loss."""
    margin: float = Field(default=0.0, ge=0)
    """How much of each pair's margin the difference of rewards has to exceed; 0: none."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """TRL's own RewardConfig keys."""


class WatchConfig(Section):
    """What is looked at while a policy trains online, and when that ends the training."""

    rewards: tuple[RewardConfig, ...] = ()
    """Held-out rewards: they score every rollout and train nothing."""
    every: int = Field(default=0, ge=0)
    """Answer held-out prompts every so many steps; 0: never."""
    prompts: int = Field(default=16, ge=1)
    """How many of `evaluate.prompts` are answered then."""
    window: int = Field(default=8, ge=2)
    """Steps at the start and at the end that alarms compare."""
    stop_kl: float | None = Field(default=None, gt=0)
    """End the training when a step's mean KL to the SFT model, nats a token, is above it."""
    stop_on_drop: bool = False
    """End the training once the held-out reward has clearly fallen while the reward rose."""


class OnlineConfig(Section):
    """What GRPO and PPO have in common."""

    lora: LoraConfig | None = LoraConfig()
    """null trains all weights."""
    rewards: tuple[RewardConfig, ...] = ()
    """Default: the rewards, or the judge, that rank."""
    judge: RewardConfig | None = None
    """GRPO, in place of rewards: an answer is worth its win rate within its group."""
    abstain: Literal["renormalise", "abstain"] | None = None
    """When a reward abstains; default: as in `rank`."""
    watch: WatchConfig = WatchConfig()
    """Held-out rewards and stop rules."""

    @model_validator(mode="after")
    def _rewards_or_judge(self) -> Self:
        if self.rewards and self.judge is not None:
            raise ValueError("expected either rewards or a judge")
        return self


class GrpoConfig(OnlineConfig):
    trainer: dict[str, Any] = Field(default_factory=dict)
    """TRL's own GRPOConfig keys: num_generations, temperature, max_completion_length, beta ..."""


class PpoConfig(OnlineConfig, SamplingConfig):
    """PPO with a value head, after Schulman et al. (2017) and Stiennon et al. (2020)."""

    steps: int = Field(default=32, ge=1)
    """Times that rollouts are sampled and learned from."""
    rollouts: int = Field(default=16, ge=1)
    """Answers sampled a step, over all processes."""
    n: int = Field(default=1, ge=1)
    """Answers a prompt; rollouts is a multiple of it."""
    epochs: int = Field(default=2, ge=1)
    """Passes over each step's rollouts."""
    minibatch: int = Field(default=8, ge=1)
    """Rollouts an optimiser update, over all processes."""
    microbatch: int = Field(default=8, ge=1)
    """Rollouts that one forward pass holds; what memory allows, the numbers do not depend on it."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Of the policy, with AdamW."""
    value_learning_rate: float | None = Field(default=None, gt=0)
    """Of the value head (and trunk, where separate); default: learning_rate. About three times that
    is a good start on small models."""
    warmup_steps: int = Field(default=0, ge=0)
    """PPO steps over which the learning rates rise to their full height."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The gradient is clipped to this norm."""
    value: Literal["shared", "separate"] = "shared"
    """The value head's trunk: the policy's own, or a second copy of the SFT model."""
    value_coef: float = Field(default=0.1, ge=0)
    """Weight of the value loss beside the policy's."""
    clip: float = Field(default=0.2, gt=0)
    """How far the probability ratio may move from 1 and still gain."""
    value_clip: float | None = Field(default=0.2, gt=0)
    """null: the value loss is not clipped."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of rewards to come."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation."""
    whiten: bool = True
    """Give the step's advantages mean 0 and variance 1."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Weight of the per-token KL to the SFT model in the reward."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats an answer; the coefficient adapts towards it (Ziegler et al., 2019). null: it is
    fixed."""
    kl_horizon: int = Field(default=10_000, ge=1)
    """Rollouts over which an adaptive coefficient moves."""
    max_update_kl: float | None = Field(default=None, gt=0)
    """End a step's epochs early once the policy has moved this far from the one that sampled,
    nats a token."""
    missing_eos_penalty: float = Field(default=0.0, ge=0)
    """Subtracted from the reward of an answer that did not end."""
    save_steps: int = Field(default=8, ge=1)
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _rollouts_divide(self) -> Self:
        if self.rollouts % self.n:
            raise ValueError(f"rollouts is {self.rollouts} and n {self.n}; expected a multiple")
        if self.rollouts % self.minibatch:
            raise ValueError(
                f"rollouts is {self.rollouts} and minibatch {self.minibatch}; expected a multiple"
            )
        if self.temperature == 0:
            raise ValueError("temperature is 0, so that every answer is the same; expected more")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError(
                "kl_target is set and kl_coef 0, which no factor moves from 0; give a coefficient "
                "to begin with, or leave kl_target out"
            )
        return self


class EvaluateConfig(SamplingConfig):
    prompts: PromptSources = ()
    """Held-out prompts; the pairs' test split where none are given."""
    n: int = Field(default=2, ge=1)
    """Answers a prompt, of each model."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences that are decoded together."""
    rewards: tuple[RewardConfig, ...] = ()
    """Default: the rewards that trained the policy online, or else those that ranked."""
    policy: str | None = None
    """The policy to compare with the SFT model; default: what this run trained."""
    origin: ModelConfig | None = None
    """Another model to which the policy's KL is measured too; `rounds` sets it to the model that
    the first round began with."""
    resamples: int = Field(default=10_000, ge=100)
    """Of the bootstrap."""
    confidence_level: float = Field(default=0.95, gt=0, lt=1)
    """Of the intervals."""


class RoundsConfig(Section):
    """The road gone several times, each time from the policy that the round before trained."""

    count: int = Field(default=3, ge=1)
    """Rounds at most."""
    until_no_gain: bool = False
    """End after the first round whose gain over the round before has an interval that includes
    zero, or lies below it."""


class Config(Section):
    """A whole run: what `pairwright run CONFIG` reads."""

    run: Path
    """The run's folder."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of everything that is drawn; the same seed gives the same run."""
    model: ModelConfig
    """The SFT model, or the base model where there is a section `sft`."""
    prompts: Annotated[PromptSources, Field(min_length=1)]
    """What the model is asked."""
    sft: SftConfig | None = None
    """Fine-tune first; default: the model is an SFT model already."""
    generate: GenerateConfig = GenerateConfig()
    """How candidates are sampled."""
    rank: RankConfig | None = None
    """How a machine ranks them."""
    label: LabelConfig | None = None
    """How people are asked."""
    aggregate: AggregateConfig = AggregateConfig()
    """How judgements become rankings."""
    pair: PairConfig = PairConfig()
    """Which candidates are set against each other."""
    gate: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    """What the gate lets pass."""
    reward: RewardModelConfig | None = None
    """Train a reward model on the pairs; default: none."""
    dpo: DpoConfig = DpoConfig()
    """One policy a run: trained with DPO unless there is a section `grpo` or `ppo`."""
    grpo: GrpoConfig | None = None
    """Train the policy online with GRPO, in place of DPO."""
    ppo: PpoConfig | None = None
    """Train the policy online with PPO, in place of DPO."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How the policy is compared with the SFT model."""
    rounds: RoundsConfig = RoundsConfig()
    """What `pairwright rounds CONFIG` reads besides; a single run does not."""

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.grpo is not None and self.ppo is not None:
            raise ValueError(
                "sections grpo and ppo are both given; expected one of them, as a run trains one "
                "policy"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _section_without_keys_is_absent(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {key: value for key, value in data.items() if value is not None}
        return data
