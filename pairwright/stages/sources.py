"""Where candidates come from: the SFT model loaded here, or a server; and which prompts fit it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pairwright.plan import Plan
from pairwright.settings import sampling_seed
from schemas.records import Prompt, Record

if TYPE_CHECKING:
    from curation.chat import ChatTemplate
    from curation.endpoint_generator import EndpointGenerator
    from curation.generators import TransformersGenerator
    from curation.models import Policy


class RefusedPrompt(Record):
    """A prompt that the model cannot be asked, or a row of held-out prompts that is none."""

    prompt_id: str
    """Of a row that is no prompt: its source and number."""
    code: str
    message: str


class Source(NamedTuple):
    """Where candidates come from, and the prompts that it can be asked."""

    generator: "TransformersGenerator | EndpointGenerator"
    prompts: list[Prompt]
    refused: list[RefusedPrompt]
    facts: dict[str, Any]


def open_source(plan: Plan, stored: Sequence[Prompt]) -> Source:
    """The SFT model loaded here, or the server that the config names.

    A server renders a template of its own. The model's is asked all the same: what it does not
    render, DPO could not be trained on.
    """
    from curation.endpoint_generator import EndpointGenerator
    from curation.endpoints import OPERATIONAL, Endpoint
    from curation.generators import TransformersGenerator
    from curation.models import load_chat, load_policy

    config, seed = plan.config.generate, sampling_seed(plan.config)
    sampling = config.model_dump(mode="json", exclude={"endpoint", "seed"})
    if config.endpoint is None:
        policy = load_policy(plan.model)
        prompts, refused = askable(stored, policy, config.max_new_tokens)
        facts = {
            "template": policy.chat.report().model_dump(mode="json"),
            "weights": policy.weights,
            "model": policy.name,
            "sampling": sampling,
        }
        own = TransformersGenerator(policy, config, batch_size=config.batch_size, seed=seed)
        return Source(own, prompts, refused, facts)
    chat = load_chat(plan.model)
    prompts, refused = fitting(stored, chat, config.max_new_tokens, None)
    facts = {
        "template": chat.report().model_dump(mode="json"),
        "model": config.endpoint.model,
        "sampling": sampling,
        "endpoint": config.endpoint.model_dump(mode="json", exclude=set(OPERATIONAL)),
        "rendered_by": "the server, with a template of its own",
    }
    endpoint = Endpoint(config.endpoint)
    served = EndpointGenerator(endpoint, config, batch_size=config.batch_size, seed=seed)
    return Source(served, prompts, refused, facts)


def askable(
    prompts: Iterable[Prompt], policy: "Policy", max_new_tokens: int
) -> tuple[list[Prompt], list[RefusedPrompt]]:
    """The prompts that the template renders and that leave the model room to answer, and the rest.

    Raises:
        ValueError: none is left.
    """
    positions = getattr(policy.model.config, "max_position_embeddings", None)
    return fitting(prompts, policy.chat, max_new_tokens, positions)


def fitting(
    prompts: Iterable[Prompt], chat: "ChatTemplate", max_new_tokens: int, positions: int | None
) -> tuple[list[Prompt], list[RefusedPrompt]]:
    """`askable` of a template, and of a model with so many positions where that is known."""
    from curation.chat import TemplateError

    kept: list[Prompt] = []
    refused: list[RefusedPrompt] = []
    for prompt in prompts:
        try:
            tokens = len(chat.prompt_ids(prompt))
            chat.check_plain(prompt)
        except TemplateError as error:
            refused.append(RefusedPrompt(prompt_id=prompt.id, code=error.code, message=str(error)))
            continue
        if positions is not None and tokens + max_new_tokens > positions:
            message = (
                f"the prompt has {tokens} tokens; with {max_new_tokens} of the answer it goes "
                f"beyond the model's {positions} positions"
            )
            refused.append(
                RefusedPrompt(prompt_id=prompt.id, code="PROMPT_TOO_LONG", message=message)
            )
        else:
            kept.append(prompt)
    if refused and not kept:
        raise ValueError(
            f"the model can be asked none of {len(refused)} prompts; the first: "
            f"{refused[0].message}"
        )
    return kept, refused
