"""How fast the labelling page takes one answer after another, in a real browser.

    python benchmarks/labelling_by_hand.py                       # 100 made-up pairs, a minute
    python benchmarks/labelling_by_hand.py --pairs-file ../shared/data/llmfao_pairs_text.jsonl

A scripted annotator opens the page once, reads which answer stands where, presses the answer's key
and Enter, and waits until the next record can be read and answered; no reload. A figure is the time
from the key to the next record: a person's time a pair is that plus reading. Every answer is then
pulled and compared with the text that stood on the screen. Exit code 1 where one differs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from curation.argilla.accounts import ensure_annotators
from curation.argilla.client import Client
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.server.background import start_background
from curation.argilla.tasks import plan_tasks
from schemas.annotations import AnnotationStore
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.records import Candidate, Completion, Message, Origin, Prompt
from tests.browser.page import LabellingPage, chromium, chromium_path

ANNOTATOR = "simulated-ann"
TEXT_COLUMNS = (("text", "result_x", "result_y"), ("instruction", "response1", "response2"))
"""What files of pairs call the prompt and the two answers."""


class Figures(NamedTuple):
    pairs: int
    median_ms: float
    slowest_ms: float
    seconds: float
    page_loads: int
    differing: int
    """Answers that came back as another text than stood on the screen."""


Item = tuple[Prompt, list[Candidate]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--pairs-file", type=Path, help="JSONL with a prompt and two answers a row")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    browser_path = chromium_path()
    if browser_path is None:
        print("no Chromium on this machine; install it from the system's packages")
        return 1
    if options.pairs_file and not options.pairs_file.exists():
        print(f"'{options.pairs_file}' does not exist; made-up pairs are used")
    rows = read_items(options.pairs_file) if has_file(options.pairs_file) else made_up()
    items = [item for item, _ in zip(distinct(rows), range(options.pairs), strict=False)]
    with (
        tempfile.TemporaryDirectory(prefix="labelling-") as name,
        start_background(Path(name) / "home") as server,
        chromium(browser_path) as browser,
    ):
        client = Client(server.url, server.api_key)
        config = LabelConfig(
            dataset="By hand",
            workspaces={"desk": WorkspaceConfig(annotators=(ANNOTATOR,))},
            overlap=1,
        )
        password = ensure_annotators(client, config)[ANNOTATOR]
        store = AnnotationStore(Path(name) / "annotations")
        pushed = push(client, store, plan_tasks(config, items, [], [], seed=0))
        page = LabellingPage(browser, server.url)
        page.sign_in(ANNOTATOR, password)
        page.open(pushed.datasets[0].id)
        figures = answer_all(page, client, store)
        page.close()
    for key, value in figures._asdict().items():
        print(f"{key}: {value:.0f}" if isinstance(value, float) else f"{key}: {value}")
    if options.json:
        options.json.write_text(json.dumps(figures._asdict(), indent=2) + "\n", "utf-8")
    return int(figures.differing > 0)


def answer_all(page: LabellingPage, client: Client, store: AnnotationStore) -> Figures:
    """The times of one answer after another, the better one being the shorter text."""
    loads, said, times = page.loads, {}, []
    began = time.perf_counter()
    while not page.finished:
        screen = page.screen()
        title = min(screen.answers, key=lambda name: (len(screen.answers[name]), name))
        said[read(screen.question, *screen.answers.values())] = screen.answers[title].strip()
        key = page.key_of(f"{title} is better")
        pressed = time.perf_counter()
        page.submit(key, "Enter")
        times.append(1000 * (time.perf_counter() - pressed))
    seconds = time.perf_counter() - began
    pull(client, store)
    return Figures(
        pairs=len(times),
        median_ms=statistics.median(times),
        slowest_ms=max(times),
        seconds=seconds,
        page_loads=page.loads - loads,
        differing=len(times) - sum(said.get(key) == text for key, text in came_back(store)),
    )


def read(question: str, *answers: str) -> tuple[str, frozenset[str]]:
    """What was asked, whichever answer stood first."""
    return question.strip(), frozenset(map(str.strip, answers))


def came_back(store: AnnotationStore) -> Iterator[tuple[tuple[str, frozenset[str]], str]]:
    """By question and answers, as the screen shows them, the text that was found better."""
    tasks = {task.id: task for task in store.tasks.read()}
    for judgement in store.judgements.read():
        task = tasks[str(judgement.task_id)]
        texts = [candidate.completion.text for candidate in task.candidates]
        best = (judgement.ranks or ()).index(1)
        question = task.prompt.messages[-1].content or ""
        yield read(question, *texts), texts[best].strip()


def has_file(path: Path | None) -> bool:
    return path is not None and path.exists()


def read_items(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            prompt, *answers = next(
                [row[name] for name in names] for names in TEXT_COLUMNS if names[0] in row
            )
            more = row.get("input")
            yield item(f"{prompt}\n\n{more}" if more else prompt, answers)


def made_up() -> Iterator[Item]:
    """Pairs of which every third is long, and the texts differ in a few words."""
    sentence = "The ferry leaves at nine, and the crossing takes forty minutes in calm weather. "
    for number in range(100_000):
        length = 12 if number % 3 == 0 else 1
        first = sentence * length + f"Ask at pier {number}."
        second = sentence.replace("nine", "ten") * length + f"Ask at the office, pier {number}."
        yield item(f"When does ferry {number} leave?", [first, second])


def item(question: str, answers: Sequence[str]) -> Item:
    prompt = Prompt(messages=(Message(role="user", content=question),))
    origin = Origin(generator="import:benchmark")
    return prompt, [
        Candidate(prompt_id=prompt.id, completion=Completion.from_text(text), origin=origin)
        for text in answers
    ]


def distinct(items: Iterator[Item]) -> Iterator[Item]:
    """Pairs whose texts read back from a screen as they are, each once."""
    seen = set()
    for prompt, (first, second) in items:
        texts = (first.completion.text, second.completion.text)
        key = (prompt.id, frozenset(texts))
        plain = all(map(is_plain, (*texts, prompt.messages[-1].content or "")))
        if key not in seen and len(set(map(str.strip, texts))) == 2 and plain:
            seen.add(key)
            yield prompt, [first, second]


def is_plain(text: str) -> bool:
    """Whether the text can be copied off the page as it is, white space around it aside."""
    return bool(text.strip()) and text.replace("\n", "").isprintable()


if __name__ == "__main__":
    sys.exit(main())
