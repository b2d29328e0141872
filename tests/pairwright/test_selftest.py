import json

from pairwright.planted import PlantedReward, planted_prompts
from pairwright.progress import Silent
from pairwright.selftest import examine_road
from schemas.records import Completion, Prompt


class WorstIsBest(PlantedReward):
    """The planted scores with their sign turned: a reward that swaps every winner."""

    def __call__(self, prompts: list[Prompt], completions: list[Completion]) -> list[float | None]:
        scores = super().__call__(prompts, completions)
        return [None if score is None else -score for score in scores]


def test_every_law_holds_on_the_road(pairwright) -> None:
    tested = pairwright("selftest", "--json")

    laws = json.loads(tested.out)
    assert [law["law"] for law in laws if not law["holds"]] == []
    assert len(laws) == 15
    assert tested.code == 0


def test_a_swapped_winner_breaks_the_laws(monkeypatch) -> None:
    import sys
    import types

    module = types.ModuleType("swapping")
    module.WorstIsBest = WorstIsBest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swapping", module)

    laws = {law.law: law for law in examine_road(Silent(), "swapping:WorstIsBest")}

    assert laws["chosen has the better score"].held == 0
    assert not laws["chosen is a best answer of its prompt"].holds
    assert laws["a prompt whose scores tie has no pair"].holds


def test_planted_prompts_cover_ties_tools_turns_and_scripts() -> None:
    planted = planted_prompts()

    assert any(not item.has_pair for item in planted)
    assert any(item.prompt.tools for item in planted)
    assert any(len(item.prompt.messages) > 2 for item in planted)
    assert any(None in item.scores for item in planted)
    texts = [one.completion.text for item in planted for one in item.candidates]
    assert any(not text.isascii() for text in texts)
    first_wins = sum(item.candidates[0].text_id in item.winners for item in planted)
    assert 0.3 < first_wins / len(planted) < 0.7
