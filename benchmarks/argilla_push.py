"""How long a pair takes to the labelling server and back, beside Argilla's own SDK.

    python benchmarks/argilla_push.py [--pairs 5000] [--rounds 2]

An embedded server of its own is started in a temporary folder. In each round ours and the SDK
push the same pairs into a new dataset each, one annotator answers all of both, and both are read
back; who goes first changes by the round. Ours is all of `push` (checks and the annotation store
included) and all of `pull` (every vote understood and stored); the SDK's is building its records
with `dataset.records.log`, and `list(dataset.records(with_responses=True))`, which drops ranks.
Wall time depends on what else the machine does, so the CPU time of this process and of the
server's together is printed too.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from curation.argilla.accounts import ensure_annotators
from curation.argilla.client import Client
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.server.background import start_background
from curation.argilla.server.stack import Started
from curation.argilla.settings import dataset_settings, record_fields, record_metadata
from curation.argilla.tasks import LabelPlan, plan_tasks
from schemas.annotations import AnnotationStore
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.records import Candidate, Completion, Message, Origin, Prompt

WORDS = [
    "the",
    "a",
    "river",
    "house",
    "quickly",
    "green",
    "walks",
    "over",
    "under",
    "bright",
    "morning",
    "paper",
    "keeps",
    "and",
]
ANNOTATOR = "simulated-answerer"
WORKSPACE = "benchmark"
ANSWERS_A_REQUEST = 100
READ_PAGE = 500


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def config(name: str) -> LabelConfig:
    workspaces = {WORKSPACE: WorkspaceConfig(annotators=(ANNOTATOR,))}
    return LabelConfig(dataset=name, workspaces=workspaces, overlap=1)


def planned(name: str, pairs: int) -> LabelPlan:
    """A plan of made-up pairs: a question of 20 words, two answers of 30 to 120."""
    rng = random.Random(0)
    items = []
    for number in range(pairs):
        question = Message(role="user", content=f"{number}: {sentence(rng, 20)}")
        prompt = Prompt(messages=(question,))
        candidates = [
            Candidate(
                prompt_id=prompt.id,
                completion=Completion.from_text(sentence(rng, rng.randint(30, 120))),
                origin=Origin(generator="import:benchmark", index=index),
            )
            for index in range(2)
        ]
        items.append((prompt, candidates))
    return plan_tasks(config(name), items, [], [], seed=0)


def sdk_dataset(sdk: Any, plan: LabelPlan) -> Any:
    """A dataset like ours, made by the SDK."""
    import argilla

    ours = dataset_settings(plan.config, plan.tasks[0])
    questions: list[Any] = []
    for item in ours.questions:
        kind, name, title = item["settings"]["type"], item["name"], item["title"]
        required = item["required"]
        if kind == "label_selection":
            labels = {option["value"]: option["text"] for option in item["settings"]["options"]}
            questions.append(argilla.LabelQuestion(name, labels, title=title, required=required))
        elif kind == "rating":
            values = [option["value"] for option in item["settings"]["options"]]
            questions.append(argilla.RatingQuestion(name, values, title=title, required=required))
        else:
            questions.append(argilla.TextQuestion(name, title=title, required=required))
    (field,) = ours.fields
    settings = argilla.Settings(
        guidelines=ours.guidelines,
        fields=[
            argilla.CustomField(
                name=field["name"], template=field["settings"]["template"], advanced_mode=True
            )
        ],
        questions=questions,
        metadata=[
            argilla.TermsMetadataProperty(item["name"], visible_for_annotators=False)
            for item in ours.metadata
        ],
        distribution=argilla.TaskDistribution(min_submitted=ours.overlap),
    )
    name = f"sdk-{plan.config.dataset}"
    return argilla.Dataset(name=name, workspace=WORKSPACE, settings=settings, client=sdk).create()


def sdk_push(dataset: Any, plan: LabelPlan) -> None:
    import argilla

    dataset.records.log(
        [
            argilla.Record(id=task.id, fields=record_fields(task), metadata=record_metadata(task))
            for task in plan.tasks
        ]
    )


def sdk_pull(dataset: Any) -> int:
    return sum(len(record.responses) > 0 for record in dataset.records(with_responses=True))


def answer_all(annotator: Client, owner: Client, dataset_id: str, pairs: int) -> None:
    """One submitted answer to every record."""
    for offset in range(0, pairs, READ_PAGE):
        params = {"offset": offset, "limit": READ_PAGE}
        page = owner.get(f"/datasets/{dataset_id}/records", params=params)["items"]
        for start in range(0, len(page), ANSWERS_A_REQUEST):
            items = [
                {
                    "record_id": record["id"],
                    "status": "submitted",
                    "values": {"overall": {"value": "a"}},
                }
                for record in page[start : start + ANSWERS_A_REQUEST]
            ]
            annotator.post("/me/responses/bulk", {"items": items})


class Spent(NamedTuple):
    """Milliseconds a pair."""

    wall: float
    cpu: float


class Stopwatch:
    """Times work done here and by a server."""

    def __init__(self, server_pid: int, pairs: int) -> None:
        self._server = psutil.Process(server_pid)
        self._pairs = pairs

    def time(self, work: Callable[[], Any]) -> Spent:
        wall, cpu = time.perf_counter(), self._cpu()
        work()
        spent = (time.perf_counter() - wall, self._cpu() - cpu)
        return Spent(*(1000 * seconds / self._pairs for seconds in spent))

    def _cpu(self) -> float:
        processes = [self._server, *self._server.children(recursive=True)]
        used = [process.cpu_times() for process in processes]
        return time.process_time() + sum(float(each.user + each.system) for each in used)


def one_round(
    number: int, pairs: int, folder: Path, server: Started, annotator_key: str
) -> dict[str, Spent]:
    """What each of the four took."""
    import argilla

    sdk = argilla.Argilla(api_url=server.url, api_key=server.api_key)
    owner, annotator = Client(server.url, server.api_key), Client(server.url, annotator_key)
    watch = Stopwatch(server.pid, pairs)
    plan = planned(f"round-{number}", pairs)
    store = AnnotationStore(folder / f"annotations-{number}")
    dataset = sdk_dataset(sdk, plan)
    pushes = {
        "push": lambda: push(owner, store, plan),
        "SDK push": lambda: sdk_push(dataset, plan),
    }
    pulls = {"pull": lambda: pull(owner, store), "SDK pull": lambda: sdk_pull(dataset)}
    turn = 1 if number % 2 else -1
    spent = {name: watch.time(work) for name, work in list(pushes.items())[::turn]}
    ours = next(item["id"] for item in owner.datasets() if item["name"] == plan.tasks[0].dataset)
    for dataset_id in (ours, str(dataset.id)):
        answer_all(annotator, owner, dataset_id, pairs)
    spent |= {name: watch.time(work) for name, work in list(pulls.items())[::turn]}
    votes = sum(1 for _ in store.judgements.read())
    if votes != pairs or sdk_pull(dataset) != pairs:
        raise SystemExit(f"{votes} votes came back for {pairs} pairs")
    return spent


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pairs", type=int, default=5_000)
    arguments.add_argument("--rounds", type=int, default=2)
    wanted = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        start_background(Path(name) / "home", progress=print) as server,
    ):
        client = Client(server.url, server.api_key)
        ensure_annotators(client, config("accounts"))
        (annotator_key,) = [
            user["api_key"]
            for user in client.get("/users")["items"]
            if user["username"] == ANNOTATOR
        ]
        rounds = [
            one_round(number, wanted.pairs, Path(name), server, annotator_key)
            for number in range(wanted.rounds)
        ]
    table = Table(
        "ms a pair: CPU (wall)",
        *(f"round {n + 1}" for n in range(wanted.rounds)),
        "median",
        title=f"{wanted.pairs:,} pairs a round",
    )
    for what in ("push", "SDK push", "pull", "SDK pull"):
        times = [each[what] for each in rounds]
        middle = Spent(*(statistics.median(column) for column in zip(*times, strict=True)))
        table.add_row(what, *(f"{each.cpu:.2f} ({each.wall:.2f})" for each in (*times, middle)))
    for what in ("push", "pull"):
        ratios = [each[f"SDK {what}"].cpu / each[what].cpu for each in rounds]
        cells = [f"{value:.2f}" for value in (*ratios, statistics.median(ratios))]
        table.add_row(f"SDK's {what} CPU by ours", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
