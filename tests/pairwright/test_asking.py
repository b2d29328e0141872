"""What can be asked, and what a run waits for."""

import pytest

from curation.argilla.push import Pushed, RefusedTask
from pairwright.labels.asking import (
    AnswersMissing,
    PushedPlan,
    check_labels,
    without_old_gold,
)
from schemas.configs import AggregateConfig, LabelConfig, SimulatedAnnotator, WorkspaceConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, PreferencePair, Prompt


def task(question: str) -> LabelTask:
    prompt = Prompt(messages=(Message(role="user", content=question),))
    return LabelTask(
        dataset="d",
        workspace="w",
        prompt=prompt,
        candidates=tuple(
            Candidate(
                prompt_id=prompt.id,
                completion=Completion.from_text(text),
                origin=Origin(generator="import:test"),
            )
            for text in ("x", "y")
        ),
    )


def test_a_run_does_not_wait_for_answers_to_what_can_never_be_sent() -> None:
    asked = {reason: task(reason) for reason in ("TOO_LARGE", "FORGOTTEN", "NOT_UNICODE")}
    waiting = {reason: task(reason) for reason in ("DUPLICATE", "SHOWN_DIFFERENTLY")}
    refused = [RefusedTask(one.id, reason, "said why") for reason, one in (asked | waiting).items()]
    sent = task("sent")
    left = PushedPlan(Pushed([], refused), {}).answerable(
        [*asked.values(), *waiting.values(), sent]
    )
    assert left == [*waiting.values(), sent]


def test_a_script_that_is_named_twice_is_refused() -> None:
    one = "simulated-ann"
    config = LabelConfig(
        dataset="d",
        overlap=1,
        workspaces={"team": WorkspaceConfig(annotators=(one,))},
        simulated=(
            SimulatedAnnotator(name=one, accuracy=0.9),
            SimulatedAnnotator(name=one, accuracy=0.6),
        ),
    )
    with pytest.raises(ValueError, match="'simulated-ann' more than once"):
        check_labels(config, AggregateConfig())


def test_nobody_is_measured_by_a_gold_question_that_was_taken_out() -> None:
    asked, kept, gone = (task(question) for question in ("asked", "kept", "gone"))
    gold = [one.model_copy(update={"purpose": "gold", "expected": (2, 1)}) for one in (kept, gone)]
    pair = PreferencePair(
        prompt=kept.prompt,
        chosen=kept.candidates[1],
        rejected=kept.candidates[0],
        strategy="gold",
    )
    assert without_old_gold([asked, *gold], [pair]) == [asked, gold[0]]


@pytest.mark.parametrize(("share", "given", "wanted"), [(0.9, 9, 10), (0.55, 11, 20), (1.0, 7, 7)])
def test_a_run_goes_on_with_exactly_the_share_that_is_enough(
    share: float, given: int, wanted: int
) -> None:
    assert not AnswersMissing(wanted - given, wanted).fall_short_of(share)
    assert AnswersMissing(wanted - given + 1, wanted).fall_short_of(share)
    assert not AnswersMissing(0, 0).fall_short_of(share)
