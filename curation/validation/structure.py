"""Checks on the shape of a row: messages, roles, and one history that both sides answer."""

from itertools import pairwise
from typing import Any, get_args

from curation.validation.row import Failure, Messages, RawRow
from schemas.records import Role

_ROLES = get_args(Role)
_TURNS_OF_OTHERS = {"system", "developer", "user"}


def bad_message(row: RawRow) -> Failure | None:
    """A message is not a mapping with a role and a text."""
    for name, part in (("prompt", row.prompt), *row.sides()):
        for index, message in enumerate(part):
            problem = _message_problem(message)
            if problem:
                return Failure("BAD_MESSAGE", f"{name}[{index}] {problem}")
    return None


def unknown_role(row: RawRow) -> Failure | None:
    for name, part in (("prompt", row.prompt), *row.sides()):
        for index, message in enumerate(part):
            if message["role"] not in _ROLES:
                return Failure(
                    "UNKNOWN_ROLE",
                    f"{name}[{index}] has role '{message['role']}'; expected one of "
                    f"{', '.join(_ROLES)}",
                )
    return None


def no_shared_prompt(row: RawRow) -> Failure | None:
    """There is no prompt, neither given nor shared by the two sides."""
    if row.prompt:
        return None
    return Failure(
        "NO_SHARED_PROMPT",
        "the row has no prompt and its sides do not begin with the same turns; expected both to "
        "answer one prompt",
    )


def history_differs(row: RawRow) -> Failure | None:
    """The sides answer different prompts, or bring turns of another history along."""
    if row.proposal is not None:
        pair = row.proposal
        asked = {
            "the prompt": pair.prompt.id,
            "chosen": pair.chosen.prompt_id,
            "rejected": pair.rejected.prompt_id,
        }
        if len(set(asked.values())) > 1:
            said = ", ".join(f"{name} '{prompt_id}'" for name, prompt_id in asked.items())
            return Failure("HISTORY_DIFFERS", f"the sides belong to different prompts: {said}")
    own = [history(messages) for _, messages in row.sides()]
    if all(repeats(row.prompt, turns) for turns in own):
        return None
    if without_nulls(own[0]) != without_nulls(own[1]):
        message = "chosen and rejected answer different turns; expected one history before both"
    else:
        message = "both sides hold turns that the prompt does not; expected them in the prompt"
    return Failure("HISTORY_DIFFERS", message)


def prompt_repeated(row: RawRow) -> Failure | None:
    """A side begins with the prompt, or with its end, which would be trained on as an answer."""
    for name, messages in row.sides():
        turns = len(history(messages))
        if turns:
            return Failure(
                "PROMPT_REPEATED_IN_COMPLETION",
                f"{name} begins with {turns} of the prompt's turns; expected the answer alone "
                "(repairing takes them off)",
            )
    return None


def role_order(row: RawRow) -> Failure | None:
    """Two turns of one side in a row, or a tool result that no assistant asked for."""
    for name, messages in row.sides():
        conversation = [*row.prompt, *messages]
        roles = [message["role"] for message in conversation]
        for index, (before, role) in enumerate(pairwise(roles)):
            if before == role and role in ("user", "assistant"):
                return Failure(
                    "ROLE_ORDER",
                    f"prompt and {name} have two {role} turns in a row at positions "
                    f"[{index}, {index + 1}]; expected turns that alternate",
                )
            if role == "tool" and before not in ("assistant", "tool"):
                return Failure(
                    "ROLE_ORDER",
                    f"prompt and {name} have a tool turn after a {before} turn at positions "
                    f"[{index}, {index + 1}]; expected an assistant's call before it",
                )
        if roles[0] == "tool":
            return Failure("ROLE_ORDER", "the prompt begins with a tool turn at positions [0]")
    return None


def last_role(row: RawRow) -> Failure | None:
    """The prompt ends with an answer already, or a side does not end with one."""
    if row.prompt[-1]["role"] == "assistant":
        return Failure(
            "LAST_ROLE", "the prompt ends with an assistant turn; expected a turn to answer"
        )
    for name, messages in row.sides():
        role = messages[-1]["role"]
        if role != "assistant":
            return Failure(
                "LAST_ROLE", f"{name} ends with a {role} turn; expected it to end with assistant"
            )
    return None


def history(messages: Messages) -> Messages:
    """What a side holds up to its last turn by anyone but the assistant and its tools."""
    others = [index for index, turn in enumerate(messages) if turn["role"] in _TURNS_OF_OTHERS]
    return messages[: others[-1] + 1] if others else []


def repeats(prompt: Messages, turns: Messages) -> bool:
    """Whether the turns are the end of the prompt; no turns are."""
    return not turns or without_nulls(prompt[-len(turns) :]) == without_nulls(turns)


def without_nulls(messages: Messages) -> Messages:
    """The messages as records see them: a null or an empty list of calls is an absent key."""
    return [
        {key: value for key, value in message.items() if value is not None and value != []}
        for message in messages
    ]


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return f"is a {type(message).__name__}; expected a mapping with role and content"
    if not isinstance(message.get("role"), str):
        return "has no role; expected a mapping with role and content"
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        return f"has a {type(content).__name__} as content; expected text"
    return None
