"""`pairwright label` against a live Argilla: what a person at the command line sees and gets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from curation.argilla.client import Client
from curation.argilla.server.background import start_background
from curation.argilla.server.environment import ensure_environment
from curation.argilla.server.home import running
from schemas.annotations import AnnotationStore
from schemas.labels import LabelTask
from schemas.records import Judgement, Ranking
from schemas.run_folder import RunFolder
from tests.pairwright.conftest import Command

SCRIPTS = ("simulated-ann", "simulated-ben", "simulated-cem")


@pytest.fixture(scope="module")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a server that runs as long as this module's tests."""
    try:
        ensure_environment(print)
    except OSError as error:
        pytest.skip(f"no Argilla server on this machine: {error}")
    home = tmp_path_factory.mktemp("argilla") / "home"
    with start_background(home):
        yield home


@pytest.fixture
def config(
    inputs: Path, run_copy: Path, server_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A config whose run has candidates, for a dataset of its own on the server."""
    monkeypatch.setenv("PAIRWRIGHT_ARGILLA_HOME", str(server_home))
    data = yaml.safe_load((inputs / "run.yaml").read_text())
    data["run"] = str(run_copy)
    data["label"] = {
        "dataset": f"Prefs {run_copy.parent.name}",
        "workspaces": {"team": {"annotators": list(SCRIPTS)}},
        "overlap": 2,
        "pairs_a_prompt": 1,
        "annotations": str(run_copy.parent / "annotations"),
        "simulated": [{"name": name, "accuracy": 0.9} for name in SCRIPTS],
    }
    file = run_copy.parent / "label.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def result(outcome: Any) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    data: dict[str, Any] = json.loads(outcome.out)
    return data


def test_a_plan_says_what_is_asked_and_sends_nothing(config: Path, pairwright: Command) -> None:
    plan = result(pairwright("label", "plan", config, "--json"))
    assert plan["records"] == plan["new"] > 0
    assert plan["judgements"] == 2 * plan["records"]
    assert [row["workspace"] for row in plan["workspaces"]] == ["team"]
    assert not (config.parent / "annotations").exists()
    assert "is not on the server" not in pairwright("label", "status", config).out


def test_a_second_push_adds_nothing(config: Path, pairwright: Command) -> None:
    first = result(pairwright("label", "push", config, "--json"))
    second = result(pairwright("label", "push", config, "--json"))
    assert (first["added"], first["present"]) == (first["records"], 0)
    assert (second["added"], second["present"], second["new"]) == (0, first["records"], 0)
    assert second["accounts"] == {}


def test_votes_become_a_dataset_with_confidence(config: Path, pairwright: Command) -> None:
    made = result(pairwright("run", config, "dpo.trainer.num_train_epochs=0.5", "--json"))
    stages = {row["stage"]: row for row in made["stages"]}
    assert stages["label"]["counts"]["judgements"] == 2 * stages["label"]["counts"]["tasks"]
    assert stages["aggregate"]["counts"]["counted"] == stages["label"]["counts"]["judgements"]
    run = RunFolder(Path(yaml.safe_load(config.read_text())["run"]))
    pairs = run.stage("validate").tables()
    known = [p for table in pairs for p in table["p_chosen"].to_pylist()]
    assert known
    assert all(0.5 < p < 1 for p in known)

    status = result(pairwright("label", "status", config, "--json"))
    assert status["needs_more"] == {}
    assert sum(row["submitted"] for row in status["annotators"]) == sum(
        row["submitted"] for row in status["datasets"]
    )
    agreement = result(pairwright("agreement", config, "--json"))
    assert agreement["agreement"]["overall"]["percent"]["value"] > 0.5

    again = result(pairwright("run", config, "dpo.trainer.num_train_epochs=0.5", "--json"))
    assert {row["state"] for row in again["stages"]} == {"reused"}


def test_a_run_waits_for_people_and_goes_on_when_they_have_answered(
    config: Path, pairwright: Command
) -> None:
    waiting = pairwright("run", config, "label.simulated=[]")
    assert waiting.code == 1
    assert "0 of" in waiting.err
    assert "people go on at http://127.0.0.1" in waiting.err
    votes = answered(config, pairwright)
    made = result(pairwright("run", config, "dpo.trainer.max_steps=1", "--json"))
    stages = {row["stage"]: row for row in made["stages"]}
    assert stages["label"]["counts"]["judgements"] == votes


def test_an_excluded_annotator_counts_again_when_included(
    config: Path, pairwright: Command
) -> None:
    votes = answered(config, pairwright)
    reason = ["--reason", "presses A"]
    result(pairwright("label", "exclude", config, SCRIPTS[0], *reason, "--json"))
    result(pairwright("label", "pull", config, "--json"))
    without = result(pairwright("aggregate", config, "--json"))["stages"][0]["counts"]["counted"]
    assert 0 < without < votes
    result(pairwright("label", "include", config, SCRIPTS[0], *reason, "--json"))
    result(pairwright("label", "pull", config, "--json"))
    full = result(pairwright("aggregate", config, "--json"))["stages"][0]["counts"]["counted"]
    assert full == votes
    unknown = pairwright("label", "exclude", config, "nobody", *reason)
    assert unknown.code == 2
    assert "no answer of 'nobody'" in unknown.err


def test_who_is_forgotten_is_gone_from_store_and_run_and_stays_away(
    config: Path, pairwright: Command
) -> None:
    answered(config, pairwright)
    result(pairwright("aggregate", config, "--json"))
    run = RunFolder(Path(yaml.safe_load(config.read_text())["run"]))
    # `forget` goes by the config that the run keeps.
    gone = result(pairwright("forget", run.path, "--annotator", SCRIPTS[1], "--json"))
    assert gone["deleted_on_server"] == gone["judgements"] > 0
    assert {"label", "aggregate"} <= set(gone["stages_deleted"])
    assert not run.stage("label").folder.exists()
    result(pairwright("label", "pull", config, "--json"))
    names = {item.annotator.name for item in run.stage("label").read(Judgement)}
    assert SCRIPTS[1] not in names
    assert names


def test_a_forgotten_prompt_is_asked_of_nobody_again(config: Path, pairwright: Command) -> None:
    answered(config, pairwright)
    result(pairwright("aggregate", config, "--json"))
    run = RunFolder(Path(yaml.safe_load(config.read_text())["run"]))
    store = AnnotationStore(config.parent / "annotations")
    prompt_id = next(store.tasks.read()).prompt.id
    gone = result(pairwright("forget", run.path, "--prompt", prompt_id, "--json"))
    assert gone["deleted_on_server"] == gone["tasks"] == 1
    assert gone["judgements"] == 2
    assert run.stages() == {}
    made = result(pairwright("generate", config, "--json"))["stages"]
    assert made[0]["reasons"] == {"FORGOTTEN": 1}
    result(pairwright("label", "push", config, "--json"))
    assert prompt_id not in {task.prompt.id for task in store.tasks.read()}


def test_a_new_password_is_shown_once_and_opens_the_account(
    config: Path, pairwright: Command
) -> None:
    result(pairwright("label", "push", config, "--json"))
    made = result(pairwright("label", "password", SCRIPTS[0], "--json"))
    server = running()
    assert server is not None
    form = {"username": SCRIPTS[0], "password": made["password"]}
    assert httpx.post(f"{server.url}/api/v1/token", data=form).status_code == 201
    unknown = pairwright("label", "password", "nobody")
    assert unknown.code == 2
    assert "no account is called 'nobody'" in unknown.err


def test_disputed_pairs_go_to_the_adjudicator_whose_answer_wins(
    config: Path, pairwright: Command
) -> None:
    answered(config, pairwright, "label.simulated=[]")
    none = pairwright("label", "adjudicate", config)
    assert none.code == 2
    assert "label.adjudicators" in none.err
    sent = result(pairwright("label", "adjudicate", config, "label.adjudicators=[judy]", "--json"))
    tasks = list(AnnotationStore(config.parent / "annotations").tasks.read())
    disputed = [task for task in tasks if task.purpose == "adjudication"]
    assert len(disputed) == sent["records"] == sent["added"]
    assert {task.workspace for task in disputed} == {"adjudication-judy"}
    assert all(task.dataset.endswith("-adjudication") for task in disputed)


def test_an_adjudicator_does_not_rule_on_a_dispute_of_her_own(
    config: Path, pairwright: Command
) -> None:
    answered(config, pairwright)
    disputed = result(
        pairwright("label", "adjudicate", config, "label.adjudicators=[judy]", "--json")
    )
    ann = f"label.adjudicators=[{SCRIPTS[0]}]"
    sent = result(pairwright("label", "adjudicate", config, ann, "--json"))
    tasks = list(AnnotationStore(config.parent / "annotations").tasks.read())
    own = sum(SCRIPTS[0] in voters(config, task) for task in tasks if is_ruling(task))
    assert sent["left_out"].get("OWN_DISPUTE", 0) == own > 0
    assert sent["records"] + own == disputed["records"]


def test_where_nothing_is_asked_no_accounts_are_made(config: Path, pairwright: Command) -> None:
    name = f"judy-{config.parent.name}"
    asked = ("label", "adjudicate", config, f"label.adjudicators=[{name}]")
    sent = result(pairwright(*asked, "--json"))
    assert (sent["records"], sent["accounts"], sent["page"]) == (0, {}, None)
    told = pairwright(*asked).out
    assert "annotators disagree on no pair" in " ".join(told.split())
    assert "sign in" not in told
    server = running()
    assert server is not None
    with Client(server.url, server.api_key) as client:
        assert name not in client.users().values()


def test_a_follow_up_goes_to_the_one_of_a_team_who_has_not_seen_the_pair(
    config: Path, pairwright: Command
) -> None:
    votes = answered(config, pairwright)
    sent = result(pairwright("label", "push", config, "--next", "2", "--json"))
    assert (sent["added"], sent["left_out"]) == (2, {})
    store = AnnotationStore(config.parent / "annotations")
    following = [task for task in store.tasks.read() if task.follows is not None]
    assert {task.dataset.rpartition("-next-")[2] for task in following} == {"1"}
    for task in following:
        assert task.workspace.removeprefix("follow-up-") in set(SCRIPTS) - voters(config, task)
    # The scripts find them, and then every pair of the two has three votes.
    assert answered(config, pairwright) == votes + 2
    for task in following:
        assert voters(config, task) == set(SCRIPTS)

    pairs = votes // 2
    rest = result(pairwright("label", "push", config, "--next", "1000", "--json"))
    assert (rest["added"], rest["left_out"]) == (pairs - 2, {"NOBODY_NEW": 2})
    none = result(pairwright("label", "push", config, "--next", "5", "--json"))
    assert (none["records"], none["left_out"]) == (0, {"NOBODY_NEW": pairs})


def test_a_follow_up_reaches_people_on_a_foreign_server_who_have_accounts(
    config: Path, pairwright: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(config, pairwright)
    server = running()
    assert server is not None
    monkeypatch.setenv("ARGILLA_API_KEY", server.api_key)
    foreign = ("label", "push", config, f"label.server={server.url}", "--next", "2", "--json")
    name = f"newcomer-{config.parent.name}"
    people = f"label.workspaces.team.annotators=[{name}, {', '.join(SCRIPTS)}]"
    refused = pairwright(*foreign, people)
    assert refused.code == 2
    assert f"lacks annotator '{name}'" in refused.err
    sent = result(pairwright(*foreign))
    assert (sent["added"], sent["accounts"]) == (2, {})
    with Client(server.url, server.api_key) as client:
        assert {row["workspace"] for row in sent["workspaces"]} <= set(client.workspaces())
        assert name not in client.users().values()


def test_a_dataset_that_is_gone_from_the_server_is_named(config: Path, pairwright: Command) -> None:
    result(pairwright("label", "push", config, "--json"))
    assert result(pairwright("label", "status", config, "--json"))["absent"] == []
    server = running()
    assert server is not None
    name = next(AnnotationStore(config.parent / "annotations").tasks.read()).dataset
    with Client(server.url, server.api_key) as client:
        (found,) = [one for one in client.datasets() if one["name"] == name]
        client.delete(f"/datasets/{found['id']}")
    status = result(pairwright("label", "status", config, "--json"))
    assert status["absent"] == [{"dataset": name, "workspace": "team"}]


def test_without_a_server_a_push_says_how_to_start_one(
    config: Path, pairwright: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRWRIGHT_ARGILLA_HOME", str(tmp_path / "elsewhere"))
    outcome = pairwright("label", "push", config, "label.simulated=[]")
    assert outcome.code == 3
    assert "pairwright label serve" in outcome.err


def is_ruling(task: LabelTask) -> bool:
    return task.purpose == "adjudication"


def voters(config: Path, task: LabelTask) -> set[str]:
    """Who has answered about the task's pair, in whatever dataset."""
    judgements = AnnotationStore(config.parent / "annotations").judgements.read()
    return {item.annotator.name for item in judgements if set(item.candidates) == set(task.shown)}


def answered(config: Path, pairwright: Command, *overrides: str) -> int:
    """How many answers count, once the scripts have answered everything and it is pulled."""
    from pairwright.labels.asking import labelling_server
    from pairwright.labels.scripted import answer_by_script
    from pairwright.progress import Silent
    from pairwright.road import open_plan
    from pairwright.stages.pipeline import Road

    result(pairwright("label", "push", config, "--json"))
    road = Road(open_plan(config, (), run=None, limit=None), Silent())
    assert road.plan.config.label is not None
    with labelling_server(road, road.plan.config.label) as client:
        answer_by_script(road, client)
    pulled = result(pairwright("label", "pull", config, *overrides, "--json"))
    counted: int = pulled["label"]["judgements"]
    return counted


def test_pairs_with_fewer_votes_than_asked_for_conclude_nothing(
    config: Path, pairwright: Command
) -> None:
    answered(config, pairwright)
    counts = [
        result(pairwright("aggregate", config, f"aggregate.min_votes={number}", "--json"))
        for number in (2, 3)
    ]
    two, three = (found["stages"][0]["counts"] for found in counts)
    assert (two["rankings"] > 0, two["unranked"]) == (True, 0)
    assert (three["rankings"], three["unranked"]) == (0, two["rankings"])


def test_an_exclusion_is_seen_by_every_stage_that_follows(
    config: Path, pairwright: Command
) -> None:
    answered(config, pairwright)
    for verb in ("aggregate", "pair"):
        result(pairwright(verb, config, "--json"))
    result(pairwright("label", "exclude", config, SCRIPTS[0], "--reason", "presses A", "--json"))
    shown = result(pairwright("show", config, "--json"))
    states = {row["stage"]: row["state"] for row in shown["stages"]}
    assert states["label"] == states["aggregate"] == states["pair"] == "stale"
    refused = pairwright("validate", config)
    assert refused.code == 2
    assert "'pair'" in refused.err
    assert "stale" in refused.err


def test_an_early_pull_does_not_end_the_asking(config: Path, pairwright: Command) -> None:
    result(pairwright("label", "push", config, "--json"))
    early = result(pairwright("label", "pull", config, "--json"))
    assert early["label"]["answers_missing"] == early["label"]["answers_wanted"] > 0
    made = result(pairwright("run", config, "dpo.trainer.max_steps=1", "--json"))
    stages = {row["stage"]: row for row in made["stages"]}
    assert stages["label"]["counts"]["answers_missing"] == 0


def test_a_declared_assisted_run_uses_its_votes_and_marks_its_rankings(
    config: Path, pairwright: Command
) -> None:
    overrides = ("label.assisted=true", "dpo.trainer.max_steps=1")
    made = result(pairwright("run", config, *overrides, "--json"))
    stages = {row["stage"]: row for row in made["stages"]}
    assert stages["aggregate"]["counts"]["counted"] > 0
    run = RunFolder(Path(yaml.safe_load(config.read_text())["run"]))
    methods = {item.method for item in run.stage("aggregate").read(Ranking)}
    assert all("+assisted" in method for method in methods)
    modes = {item.mode for item in run.stage("label").read(Judgement)}
    assert modes == {"assisted"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("aggregate.question=helpful", "which nobody is asked; expected one of overall"),
        ("label.server=https://me:secret@example.org", "holds a user name or a password"),
        ("label.overlap=9", "needs 9 answers"),
        ("label.guidelines=nowhere.md", "label.guidelines: 'nowhere.md' is no file"),
        ("label.simulated=[{name: eve}]", "must begin with 'simulated-'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    config: Path, pairwright: Command, override: str, message: str
) -> None:
    outcome = pairwright("label", "plan", config, override)
    assert outcome.code == 2
    assert message in outcome.err
    assert "secret" not in outcome.err


def test_a_method_for_a_file_is_refused_for_a_config(config: Path, pairwright: Command) -> None:
    outcome = pairwright("aggregate", config, "--method", "mace")
    assert outcome.code == 2
    assert "takes no --method" in outcome.err
