"""What the embedded Argilla keeps: answers posted while records are pushed, and while it is killed.

    python benchmarks/argilla_drill.py              # both parts, about 4 minutes
    python benchmarks/argilla_drill.py --kills 0    # only the load
    python benchmarks/argilla_drill.py --answers 0  # only the kills

Load: four annotators post answers while an owner pushes records; every request must succeed, and
every answer must be read back as it was posted. Kills: a client posts answers one after another and
writes each one that was acknowledged to a file; at a random moment the web server, the launcher or
the client is killed with SIGKILL, the server is started again on its home, and every acknowledged
answer must be there. Exit code 1 where something failed or is lost.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from argilla_search import made_up, make_dataset

from curation.argilla.server.accounts import call
from curation.argilla.server.background import start_background
from curation.argilla.server.stack import Started

ANNOTATORS = ("ann", "bob", "cleo", "dan")
VICTIMS = ("web server", "launcher", "client")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=1000, help="of all annotators together")
    parser.add_argument("--records", type=int, default=2000, help="pushed meanwhile")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--client", metavar="DATASET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        return post_until_killed(options.client)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="argilla-drill-") as name:
        if options.answers:
            with start_background(Path(name) / "load", annotators=ANNOTATORS) as server:
                failed += load(server, options.answers, options.records)
        if options.kills:
            failed += kills(Path(name) / "kills", options.kills, random.Random(options.seed))
    return int(failed > 0)


def new_dataset(server: Started, name: str) -> tuple[str, str]:
    """The ids of a dataset that takes many answers a record, and of its question."""
    dataset = make_dataset(server, name, min_submitted=len(ANNOTATORS))
    questions = call(server.url, server.api_key, "GET", f"/datasets/{dataset}/questions")
    return dataset, questions["items"][0]["id"]


def push(server: Started, dataset: str, rows: list[dict[str, Any]]) -> list[str]:
    path = f"/datasets/{dataset}/records/bulk"
    made = call(server.url, server.api_key, "POST", path, {"items": rows})["items"]
    return [record["id"] for record in made]


def load(server: Started, answers: int, records: int) -> int:
    """Answers lost or refused while records are pushed."""
    dataset, question = new_dataset(server, "load")
    rows = list(made_up(answers // len(ANNOTATORS) + records, question))
    first, rest = rows[:-records], rows[-records:]
    ids = push(server, dataset, first)
    given: dict[str, str] = {}
    seconds: list[float] = []
    errors: list[str] = []

    def annotate(number: int) -> None:
        key = next(each.api_key for each in server.accounts if each.username == ANNOTATORS[number])
        for position, record in enumerate(ids):
            value = ("a", "b", "tie")[(position + number) % 3]
            answer = {"status": "submitted", "values": {"overall": {"value": value}}}
            started = time.perf_counter()
            try:
                made = call(server.url, key, "POST", f"/records/{record}/responses", answer)
                given[made["id"]] = value
            except OSError as error:
                errors.append(str(error))
            seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=annotate, args=(n,)) for n in range(len(ANNOTATORS))]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    pushed = 0
    for start in range(0, len(rest), 100):
        try:
            pushed += len(push(server, dataset, rest[start : start + 100]))
        except OSError as error:
            errors.append(str(error))
    push_seconds = time.monotonic() - started
    for thread in threads:
        thread.join()
    kept = {
        response["id"]: response["values"]["overall"]["value"]
        for record in read_all(server, dataset)
        for response in record["responses"]
    }
    lost = sum(kept.get(id_) != value for id_, value in given.items())
    cuts = statistics.quantiles(seconds, n=20)
    print(
        f"load: {len(given)} answers of {len(ANNOTATORS)} annotators in"
        f" {time.monotonic() - started:.0f} s while {pushed} records were pushed in"
        f" {push_seconds:.0f} s; {len(errors)} errors, {lost} lost; an answer took"
        f" {1000 * statistics.median(seconds):.0f} ms (median), {1000 * cuts[-1]:.0f} (95 %),"
        f" {1000 * max(seconds):.0f} (worst)"
    )
    for error in errors[:3]:
        print(f"  {error}")
    return len(errors) + lost + (pushed != records)


def read_all(server: Started, dataset: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    while True:
        path = f"/datasets/{dataset}/records?include=responses&limit=1000&offset={len(records)}"
        page = call(server.url, server.api_key, "GET", path)["items"]
        records += page
        if not page:
            return records


def kills(home: Path, rounds: int, draw: random.Random) -> int:
    """Acknowledged answers that are not there after the kills."""
    acknowledged: dict[str, str] = {}
    lost = 0
    for number in range(rounds):
        victim, moment = VICTIMS[number % len(VICTIMS)], draw.uniform(0, 4)
        log = home.with_name(f"answers-{number}.jsonl")
        with start_background(home, annotators=ANNOTATORS[:1]) as server:
            dataset, question = new_dataset(server, f"round {number}")
            push(server, dataset, list(made_up(500, question, seed=number)))
            client = start_client(server, dataset, log)
            while not log.stat().st_size:
                time.sleep(0.01)
            time.sleep(moment)
            launcher = psutil.Process(server.pid)
            members = launcher.children(recursive=True)
            web = next(each for each in members if "boot.py" in str(each.cmdline()))
            {"web server": web, "launcher": launcher, "client": client}[victim].kill()
            if victim != "client":
                _, alive = psutil.wait_procs([launcher, *members], timeout=10)
                lost += len(alive)
            client.kill()
            client.wait()
        told = dict(json.loads(line) for line in log.read_text().split("\n") if line.endswith("]"))
        acknowledged |= told
        with start_background(home) as server:
            datasets = call(server.url, server.api_key, "GET", "/me/datasets")["items"]
            kept = {
                response["id"]: response["values"]["overall"]["value"]
                for each in datasets
                for record in read_all(server, each["id"])
                for response in record["responses"]
            }
        missing = sum(kept.get(id_) != value for id_, value in acknowledged.items())
        lost += missing
        print(
            f"kill {number}: {victim} after {moment:.2f} s, {len(told)} answers acknowledged,"
            f" {missing} of all {len(acknowledged)} missing",
            flush=True,
        )
    return lost


def start_client(server: Started, dataset: str, log: Path) -> psutil.Popen:
    log.touch()
    told = {"url": server.url, "key": server.accounts[-1].api_key, "log": str(log)}
    environment = os.environ | {"DRILL": json.dumps(told)}
    return psutil.Popen(
        [sys.executable, __file__, "--client", dataset],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def post_until_killed(dataset: str) -> int:
    """Answer the records of the dataset; what the server acknowledged is written down at once."""
    told = json.loads(os.environ["DRILL"])
    path = f"/me/datasets/{dataset}/records/search?limit=500"
    found = call(told["url"], told["key"], "POST", path, {})["items"]
    with open(told["log"], "a", buffering=1) as log:
        for number, item in enumerate(found):
            value = ("a", "b", "tie")[number % 3]
            answer = {"status": "submitted", "values": {"overall": {"value": value}}}
            route = f"/records/{item['record']['id']}/responses"
            made = call(told["url"], told["key"], "POST", route, answer)
            log.write(json.dumps([made["id"], value]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
