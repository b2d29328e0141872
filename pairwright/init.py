"""The commented config that `pairwright init` writes."""

import json
from pathlib import Path

TEMPLATE = """\
# A whole run. `pairwright run {name}` does all of it and goes on where it was stopped;
# any key can be set on the command line too: `pairwright run {name} generate.n=8 seed=1`.

run: {run}   # its folder
seed: 0

model:                     # the SFT model: it samples the candidates, and DPO starts from it
  path: smollm2-135m-instruct   # a folder, a hub name, or the model that the demo bundles
  # adapter: path/to/lora       # where the SFT model is a LoRA adapter on `path`
  # chat_template: chat.jinja   # for a model that has no template of its own
  # system_role: merge          # where the template refuses a system role
  # dtype: bfloat16             # default: float32 on a CPU, bfloat16 on a GPU

prompts:                   # JSONL, Parquet, CSV, or a `datasets` name or folder
  - path: prompts.jsonl    # one {{"prompt": "..."}} or {{"messages": [...]}} a line
    # column: question     # default: messages, prompt, conversations, question or text
    # tags: [everyday]
    # limit: 100

# sft:                     # fine-tune `model` first; the later stages start from what this makes
#   data:                    # JSONL, Parquet, CSV, or a `datasets` name or folder
#     - path: conversations.jsonl   # messages, or prompt and completion, in each row
#       # limit: 1000
#   lora: {{r: 16, alpha: 32}}   # null trains all weights; an adapter is merged
#   max_length: 1024
#   test_share: 0.05         # share of conversations held out, to measure the loss on
#   trainer:                 # TRL's own SFTConfig keys
#     learning_rate: 1.0e-4
#     packing: false

generate:                  # nothing is taken from the model's own generation settings
  n: 4                     # samples a prompt
  temperature: 1.0
  top_p: 1.0
  max_new_tokens: 256
  batch_size: 16           # sequences decoded together
  # endpoint:              # sample from an OpenAI-compatible server instead of loading `model`
  #   base_url: http://localhost:8000/v1
  #   model: my-model

rank:                      # rewards, summed by weight; your own: `my_module:MyReward`
  rewards:
    - use: curation.rewards.rules:LengthReward
      args: {{at_most: 60}}
  # judge:                 # in place of rewards: an LLM compares answers, in both orders
  #   use: curation.judges:PairwiseJudge
  #   args: {{endpoint: {{base_url: "http://localhost:8000/v1", model: my-judge}}}}

# label:                   # people's answers; with it, their votes decide and `rank` may go
#   dataset: My preferences     # the title in Argilla
#   workspaces:                 # groups of annotators; each record goes to one group
#     everyday:
#       annotators: [ann, ben, cem]   # user names
#       # quota: 200            # at most this many records for the group
#   server: embedded            # what `pairwright label serve` runs, or the address of an Argilla
#                               # (its key in ARGILLA_API_KEY)
#   kind: pairwise              # two answers a record; `ranking`: 2 to 6 of a prompt in one
#   pairs_a_prompt: 3           # default: each two answers of a prompt
#   overlap: 3                  # people who answer each record
#   enough: 1.0                 # `run` goes on once this share of the answers is in
#   criteria: []                # more questions, such as [Helpful, Honest]; each is kept apart
#   guidelines: null            # a Markdown file for annotators; default: the project's own
#   layout: auto                # side_by_side or stacked; auto goes by the answers' length
#   gold: null                  # {{path: gold.jsonl, rate: 0.1}}: pairs whose answer is known
#   mirror: false               # show each pair in both orders, as two records
#   assisted: false             # show the machine's ranking first; such answers do not count
#   suggest: true               # attach it once a record is complete, where `rank` made one
#   adjudicators: []            # who decides where annotators disagree
#   seconds_an_answer: 40       # for the estimate of hours
#   annotations: annotations    # the folder that keeps all answers; it outlives runs
#   simulated: []               # scripts instead of people, for a trial:
#                               # [{{name: simulated-ann, accuracy: 0.8}}, ...]

# aggregate:
#   method: majority            # by votes: or dawid-skene, mace, bradley-terry; score: by `rank`
#   question: overall           # or one of label.criteria
#   min_votes: 1                # a pair with fewer votes of people concludes nothing

pair:
  strategy: curation.pairs:BestVsWorst   # or BestVsRandom, AllPairs, MaxMin

validate:                  # the gate
  max_length: 1024         # tokens of prompt and answer that training keeps
  min_margin: 0.0          # least difference of scores
  test_share: 0.1          # share of prompts held out of training
  max_quarantined: 0.5     # more than this share kept out: exit code 1

dpo:
  lora: {{r: 16, alpha: 32}} # null trains all weights
  confidence: true         # let p_chosen and weight of a pair enter the loss
  trainer:                 # TRL's own DPOConfig keys
    beta: 0.1
    learning_rate: 1.0e-4
    num_train_epochs: 3
    per_device_train_batch_size: 4

# reward:                    # a reward model on the pairs; it lies in RUN/reward/model
#   base: null                 # the model it starts from; default: the SFT model
#   lora: {{r: 16, alpha: 32}}   # null trains all weights
#   confidence: true
#   margin: 0.0                # how much of a pair's margin the difference has to exceed
#   trainer:                   # TRL's own RewardConfig keys
#     learning_rate: 1.0e-4

# grpo:                      # in place of dpo: train the policy on its own answers; needs
#                            # evaluate.prompts, and pairs only for a section `reward`
#   lora: {{r: 16, alpha: 32}}
#   rewards: []                # default: the rewards, or the judge, that rank; the run's own model:
#                              # [{{use: "curation.rewards.model:RewardModel",
#                              #    args: {{path: <run>/reward/model}}}}]
#   judge: null                # in place of rewards, as in `rank`: an answer is worth its win rate
#   watch:                     # what is looked at meanwhile, and what ends the training
#     rewards: []              # held-out rewards: they score every rollout and train nothing
#     every: 0                 # answer held-out prompts every so many steps; 0: never
#     prompts: 16              # how many of evaluate.prompts are answered then
#     window: 8                # steps at the start and at the end that alarms compare
#     stop_kl: null            # nats a token
#     stop_on_drop: false      # end once the held-out reward has clearly fallen
#   trainer:                   # TRL's own GRPOConfig keys
#     num_generations: 4
#     per_device_train_batch_size: 16
#     max_completion_length: 128
#     temperature: 0.9
#     learning_rate: 1.0e-4
#     beta: 0.02

# ppo:                       # or so, with a value model; rewards and watch as in grpo
#   lora: {{r: 16, alpha: 32}}
#   steps: 32
#   rollouts: 16               # answers sampled a step
#   n: 1                       # answers a prompt
#   epochs: 2                  # passes over each step's rollouts
#   minibatch: 8               # rollouts an optimiser update
#   microbatch: 8              # rollouts that one forward pass holds
#   learning_rate: 1.0e-5
#   value: shared              # the value head's trunk, or `separate`
#   kl_coef: 0.05              # weight of the KL to the SFT model
#   kl_target: null            # nats an answer, for a coefficient that adapts
#   missing_eos_penalty: 0.0
#   max_new_tokens: 128
#   temperature: 1.0

evaluate:                  # before and after, decoded alike, on the held-out prompts
  # prompts: [{{path: held_out.jsonl}}]   # default: the test split of the pairs
  n: 2
  temperature: 0.7
  max_new_tokens: 256

# rounds:                    # for `pairwright rounds`: the road again, from the newest policy;
#                            # needs evaluate.prompts
#   count: 3                   # rounds at most
#   until_no_gain: false       # end after the first round whose gain is not clearly above zero
"""


def write_config(path: Path) -> None:
    """Write the commented config at path.

    Raises:
        ValueError: something is there already.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=path.name, run=json.dumps(f"runs/{path.stem}")))
    except FileExistsError:
        raise ValueError(f"'{path}' exists already; it is left as it is") from None
