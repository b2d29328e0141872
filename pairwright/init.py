"""The commented config that `pairwright init` writes."""

from pathlib import Path

TEMPLATE = """\
# A whole run. `pairwright run {name}` does all of it and goes on where it was stopped;
# any key can be set on the command line too: `pairwright run {name} generate.n=8 seed=1`.

run: runs/first            # the folder of the run
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

generate:                  # nothing is taken from the model's own generation settings
  n: 4                     # samples a prompt
  temperature: 1.0
  top_p: 1.0
  max_new_tokens: 256
  batch_size: 16           # sequences decoded together

rank:                      # rewards, summed by weight; your own: `my_module:MyReward`
  rewards:
    - use: curation.rewards.rules:LengthReward
      args: {{at_most: 60}}

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

evaluate:                  # before and after, decoded alike, on the held-out prompts
  # prompts: [{{path: held_out.jsonl}}]   # default: the test split of the pairs
  n: 2
  temperature: 0.7
  max_new_tokens: 256
"""


def write_config(path: Path) -> None:
    """Write the commented config at path.

    Raises:
        ValueError: something is there already.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=path.name))
    except FileExistsError:
        raise ValueError(f"'{path}' exists already; it is left as it is") from None
