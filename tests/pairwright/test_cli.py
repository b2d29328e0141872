import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from curation.tiny import build_tiny_model
from pairwright.cli import main
from schemas.config_files import load_config
from schemas.configs import Config
from schemas.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "trl", "datasets", "pyarrow", "pydantic", "matplotlib", "scipy")
VERBS = (
    *("run", "sft", "generate", "rank", "aggregate", "pair", "validate", "export"),
    *("reward", "dpo", "grpo", "ppo", "evaluate"),
    *("show", "report", "trace", "chat", "init", "doctor", "selftest"),
)


def command(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pairwright", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        **options,  # type: ignore[call-overload]
    )


def one_sentence(err: str) -> bool:
    lines = [line for line in err.splitlines() if line.startswith("pairwright: ")]
    return len(lines) == 1 and "Traceback" not in err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from pairwright.cli import main\n"
        "assert main(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )

    for verb in VERBS:
        assert f" {verb} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(pairwright, verb: str) -> None:
    told = pairwright(verb, "--help")

    assert told.code == 0
    assert "Usage" in told.out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("genrate.n=3", "unknown key 'genrate'; did you mean 'generate'?"),
        ("dpo.lora.rr=3", "dpo.lora: unknown key 'rr'; did you mean 'r'?"),
        ("generate.n", "override 'generate.n' is not of the form key=value"),
        ("generate.n=none", "generate.n: Input should be a valid integer"),
        ("dpo.trainer.bta=0.1", "'beta'"),
        ("dpo.trainer.truncation_side_mode=keep_end", "TRL 1.16"),
        ("rank.rewards=[{use: nowhere:Reward}]", "cannot import 'nowhere'"),
        ("rank.rewards=[{use: 'curation.rewards.rules:LenghtReward'}]", "LengthReward"),
        ("rank=null", "expected the section 'rank' or 'label'"),
        (
            "rank.rewards=[{use: 'curation.rewards.rules:LengthReward', args: {at_mots: 3}}]",
            "did you mean 'at_most'?",
        ),
        ("pair.strategy=curation.pairs:BestVsBest", "has no 'BestVsBest'"),
        ("pair.args={margn: 1}", "BestVsWorst: args: unknown key 'margn'"),
        ("aggregate.method=majority", "'majority', but rewards are what ranks; expected score"),
        ("validate.test_share=0", "nothing is held out"),
        ("prompts=[{path: a.jsonl, splits: [train]}]", "did you mean 'split'?"),
        ("model.path=./nothing", "model folder './nothing' does not exist"),
        ("model.chat_template=no.jinja", "no.jinja"),
        ("prompts=[{path: nothing.jsonl}]", "nothing.jsonl"),
        ("evaluate.prompts=[{path: nothing.jsonl}]", "'nothing.jsonl' does not exist"),
    ],
)
def test_a_wrong_config_is_refused_in_one_sentence_before_anything_runs(
    inputs: Path, tmp_path: Path, pairwright, override: str, message: str
) -> None:
    refused = pairwright("run", inputs / "run.yaml", "--run", tmp_path / "run", override)

    assert refused.code == 2
    assert message in refused.err
    assert one_sentence(refused.err), refused.err
    assert not (tmp_path / "run" / "generate").exists()


def test_a_missing_config_is_refused_with_the_remedy(tmp_path: Path, pairwright) -> None:
    refused = pairwright("run", tmp_path / "nothing.yaml")

    assert (refused.code, refused.out) == (2, "")
    assert "does not exist; `pairwright init` writes one" in refused.err
    assert one_sentence(refused.err)


@pytest.mark.parametrize(
    "arguments",
    [("rnu", "x.yaml"), ("run",), ("run", "x.yaml", "--limit", "many"), ("trace", "x", "y", "z")],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(
    pairwright, arguments: tuple[str, ...]
) -> None:
    refused = pairwright(*arguments)

    assert refused.code == 2
    assert one_sentence(refused.err), refused.err


def test_debug_shows_the_traceback(tmp_path: Path, pairwright) -> None:
    refused = pairwright("run", tmp_path / "nothing.yaml", "--debug")

    assert refused.code == 2
    assert "Traceback" in refused.err


def test_broken_json_is_refused_with_file_and_line(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    lines = [json.dumps({"prompt": f"Number {number}?"}) for number in range(1, 10)]
    lines[6] = lines[6][:-3]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(lines) + "\n")
    sources = f"prompts=[{{path: {prompts}}}]"

    refused = pairwright("run", inputs / "run.yaml", "--run", tmp_path / "run", sources)

    assert refused.code == 2
    assert f"'{prompts}' line 7 is broken JSON" in refused.err
    assert one_sentence(refused.err)


def test_a_row_that_is_no_prompt_is_told_and_kept(inputs: Path, tmp_path: Path, pairwright) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "Name a bird."}, {"prompt": ""}, {"prompt": "Name a  BIRD."}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = f"prompts=[{{path: {prompts}}}]"

    made = pairwright("generate", inputs / "run.yaml", "--run", tmp_path / "run", sources)

    assert made.code == 0, made.err
    assert "line 2 is quarantined, EMPTY_PROMPT" in made.err
    stored = pq.read_table(tmp_path / "run" / "prompts" / "quarantine-00000.parquet").to_pylist()
    assert [row["row_id"] for row in stored] == ["line 2", "line 3"]
    counts = RunFolder(tmp_path / "run").stage("prompts").completed().counts
    assert (counts["read"], counts["kept"], counts["quarantined"]) == (3, 1, 2)


def test_a_base_model_without_a_template_is_refused_with_the_remedy(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    base = build_tiny_model(tmp_path / "base")
    (base / "chat_template.jinja").unlink()

    refused = pairwright(
        "run", inputs / "run.yaml", "--run", tmp_path / "run", f"model.path={base}"
    )

    assert refused.code == 2
    assert "--chat-template FILE" in refused.err
    assert "fine-tune" in refused.err
    assert one_sentence(refused.err)


def test_the_remedy_for_a_base_model_works(inputs: Path, tmp_path: Path, pairwright) -> None:
    base = build_tiny_model(tmp_path / "base")
    template = tmp_path / "its template.jinja"
    (base / "chat_template.jinja").rename(template)
    run = ("--run", tmp_path / "run", "--limit", 2, f"model.path={base}")

    made = pairwright("generate", inputs / "run.yaml", *run, "--chat-template", template)
    again = pairwright("generate", inputs / "run.yaml", *run, f"model.chat_template={template}")

    assert made.code == 0, made.err
    assert "generate: unchanged, reused" in again.err


def test_a_stage_asks_for_the_one_before_it(inputs: Path, tmp_path: Path, pairwright) -> None:
    refused = pairwright("rank", inputs / "run.yaml", "--run", tmp_path / "run")
    planned = pairwright("rank", inputs / "run.yaml", "--run", tmp_path / "run", "--dry-run")

    assert refused.code == planned.code == 2
    assert "make it first with `pairwright generate CONFIG`" in refused.err


def test_too_much_quarantine_is_exit_code_1_each_time(
    inputs: Path, run_copy: Path, pairwright
) -> None:
    asked = ("run", inputs / "run.yaml", "--run", run_copy)
    strict = ("validate.min_margin=0.2", "validate.max_quarantined=0.0")

    for _ in range(2):
        failed = pairwright(*asked, *strict)
        assert failed.code == 1
        assert "pairs were quarantined, more than the share" in failed.err
        assert "BELOW_MARGIN" in failed.err
    assert RunFolder(run_copy).stage("validate").completed().counts["quarantined"] > 0


def test_a_file_where_the_run_should_be_is_exit_code_3(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    (tmp_path / "file").write_text("")

    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        failed = pairwright("run", inputs / "run.yaml", "--run", run)
        assert failed.code == 3
        assert "there is a file where a folder is expected" in failed.err
        assert one_sentence(failed.err)


def test_a_run_in_a_folder_that_the_system_refuses_is_exit_code_3_with_the_remedy(
    inputs: Path, pairwright
) -> None:
    failed = pairwright("generate", inputs / "run.yaml", "run=/proc/run")

    assert failed.code == 3
    assert "run folder '/proc/run' cannot be made" in failed.err
    assert "use another run folder (run=DIR)" in failed.err
    assert one_sentence(failed.err)


def test_a_reward_that_ends_the_program_is_no_success(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys\n\n\ndef leave(prompts, completions):\n    sys.exit(0)\n"
    (tmp_path / "leaving.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    asked = ("rank", inputs / "run.yaml", "--run", run_copy, "rank.rewards=[{use: leaving:leave}]")
    failed = pairwright(*asked)

    assert failed.code == 2
    assert "code that the config names called exit()" in failed.err
    assert one_sentence(failed.err)


def test_a_wrong_shard_is_refused_before_anything_runs(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    for shard in ("2/2", "a/2", "²/3"):
        asked = ("generate", inputs / "run.yaml", "--run", tmp_path / "run", "--shard", shard)
        refused = pairwright(*asked)
        assert refused.code == 2
        assert "is not of the form k/n with k from 0 to n-1" in refused.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_command_whose_stdout_cannot_be_written_says_so_without_a_traceback(
    whole_run: Path, arguments: tuple[str, ...]
) -> None:
    call = [sys.executable, "-m", "pairwright", "show", str(whole_run), *arguments]
    codes = {}
    for stdout in (">/dev/full", ">&-"):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {stdout}', "sh", *call],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert "Traceback" not in done.stderr
        codes[stdout] = done.returncode
    assert codes == {">/dev/full": 3, ">&-": 0}


def test_a_terminal_that_is_not_in_utf_8_shows_what_it_can(whole_run: Path) -> None:
    run = RunFolder(whole_run)
    prompt = next(iter(run.stage("pair").tables()))["id"][0].as_py()
    done = subprocess.run(
        [sys.executable, "-m", "pairwright", "trace", str(whole_run), prompt],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert prompt in done.stdout


def test_a_full_disk_is_exit_code_3_and_the_run_goes_on_once_there_is_room(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))

    run = tmp_path / "run"
    asked = ("generate", inputs / "run.yaml", "--run", run)
    process = command(*asked, preexec_fn=little_room)
    _, err = process.communicate()

    assert process.returncode == 3, err
    assert "the disk is full" in err
    assert one_sentence(err)
    assert pairwright(*asked).code == 0
    assert RunFolder(run).stage("generate").completed()


def test_a_second_writer_is_refused(inputs: Path, run_copy: Path, pairwright) -> None:
    with RunFolder(run_copy).writing():
        refused = pairwright("generate", inputs / "run.yaml", "--run", run_copy)

    assert refused.code == 2
    assert "is being written by another process" in refused.err
    assert one_sentence(refused.err)


def test_ctrl_c_is_exit_code_130_and_the_run_goes_on(
    inputs: Path, whole_run: Path, tmp_path: Path, pairwright
) -> None:
    run = tmp_path / "run"
    asked = ("generate", inputs / "run.yaml", "--run", run, "generate.max_new_tokens=1500")
    asked += ("generate.n=16", "generate.batches_a_part=1")
    process = command(*asked)
    deadline = time.monotonic() + 120
    while not list(run.glob("generate/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == 130, err
    assert "interrupted; finished parts are kept" in err
    assert one_sentence(err)
    assert list(run.glob("generate/part-*.parquet"))
    manifest = RunFolder(run).stage("generate").manifest()
    assert manifest is not None
    assert manifest.state == "running"


def test_json_is_one_document_on_stdout(inputs: Path, whole_run: Path, pairwright) -> None:
    done = pairwright("run", inputs / "run.yaml", "--json")

    assert done.code == 0
    data = json.loads(done.out)
    assert {stage["state"] for stage in data["stages"]} == {"reused"}
    assert Path(data["report"]["html"]).exists()
    assert "unchanged, reused" in done.err


def test_an_error_is_json_too_where_json_is_asked_for(tmp_path: Path, pairwright) -> None:
    refused = pairwright("show", tmp_path, "--json")

    assert refused.code == 2
    assert json.loads(refused.out) == {
        "error": refused.err.removeprefix("pairwright: ").strip(),
        "exit_code": 2,
    }


def test_a_dry_run_tells_the_work_and_leaves_no_trace(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    planned = pairwright(
        "run", inputs / "run.yaml", "--run", tmp_path / "run", "--dry-run", "--json", "--limit", "5"
    )

    steps = {step["stage"]: step for step in json.loads(planned.out)["plan"]}
    assert {step["action"] for step in steps.values()} == {"make"}
    assert steps["prompts"]["amount"] == "5 prompts"
    assert steps["generate"]["amount"] == "20 sequences, at most 480 new tokens"
    assert not (tmp_path / "run").exists()


def test_a_reader_that_has_gone_is_no_error(whole_run: Path) -> None:
    process = command("trace", whole_run, _any_pair(whole_run), "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()

    assert process.wait() == 0
    assert err == ""


def test_init_writes_a_config_that_loads_and_overwrites_nothing(tmp_path: Path, pairwright) -> None:
    path = tmp_path / "mine.yaml"

    assert pairwright("init", path).code == 0
    config = load_config(path, as_=Config)
    assert config.dpo.trainer["beta"] == 0.1
    path.write_text("mine")
    refused = pairwright("init", path)

    assert refused.code == 2
    assert "exists already" in refused.err
    assert path.read_text() == "mine"


def test_the_config_of_init_is_one_that_a_run_accepts(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    path = tmp_path / "mine.yaml"
    assert pairwright("init", path).code == 0

    planned = pairwright(
        "run",
        path,
        "--run",
        tmp_path / "run",
        f"model.path={inputs / 'model'}",
        f"prompts=[{{path: {inputs / 'prompts.jsonl'}}}]",
        "--dry-run",
    )

    assert planned.code == 0, planned.err


def test_chat_answers_each_line_with_both_policies(
    inputs: Path, whole_run: Path, pairwright, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["Name a bird.\n", "\n", "/new\n", "Name a fish.\n", ""])

    class Piped:
        def readline(self) -> str:
            return next(lines)

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Piped())

    said = pairwright("chat", whole_run, "--json", "evaluate.temperature=0")

    assert said.code == 0, said.err
    answers = json.loads(said.out)
    assert [item["line"] for item in answers] == ["Name a bird.", "Name a fish."]
    assert all(set(item["answers"]) == {"SFT model", "policy"} for item in answers)


PAIRS = [
    {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "A stone."},
    {"prompt": "Name a fish.", "chosen": "A cod.", "rejected": "A cod."},
    {"prompt": "Name a tree.", "chosen": "An oak.", "rejected": "  "},
]


def test_validate_checks_a_file_without_a_run(tmp_path: Path, pairwright) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))

    failed = pairwright("validate", file)
    passed = pairwright("validate", file, "max_quarantined=0.7", "--json", "--out", tmp_path / "o")

    assert failed.code == 1
    assert "IDENTICAL_SIDES" in failed.out
    assert "more than the share max_quarantined=0.5 allows" in failed.err
    quarantine = [
        json.loads(line) for line in (tmp_path / "pairs.quarantine.jsonl").read_text().splitlines()
    ]
    assert [(row["row_id"], row["code"]) for row in quarantine] == [
        ("line 2", "IDENTICAL_SIDES"),
        ("line 3", "EMPTY_COMPLETION"),
    ]
    assert passed.code == 0
    data = json.loads(passed.out)
    assert (data["counts"]["in"], data["counts"]["out"]) == (3, 1)
    assert Path(data["quarantine"]).parent == tmp_path / "o"


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_validate_reads_tables_too(tmp_path: Path, pairwright, suffix: str) -> None:
    file, table = tmp_path / f"pairs.{suffix}", pa.Table.from_pylist(PAIRS)
    if suffix == "csv":
        csv.write_csv(table, file)
    else:
        pq.write_table(table, file)

    checked = pairwright("validate", file, "max_quarantined=1", "--json")

    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["reasons"] == {"IDENTICAL_SIDES": 1, "EMPTY_COMPLETION": 1}


def test_validate_checks_tokens_where_a_model_is_named(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIRS[0]) + "\n")

    fits = pairwright("validate", file, "--model", inputs / "model", "--json")
    too_long = pairwright("validate", file, "--model", inputs / "model", "max_length=12", "--json")

    assert fits.code == 0
    assert json.loads(fits.out)["warnings"] == [
        "NO_TEST_PAIRS: no pair falls into the test split (test_share)"
    ]
    assert too_long.code == 1
    assert json.loads(too_long.out)["reasons"] != {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.jsonl",), "nothing.jsonl"),
        (("pairs.jsonl", "max_lenght=3"), "did you mean 'max_length'?"),
        (("pairs.jsonl", "max_length"), "not of the form key=value"),
        (("nothing.txt",), "'nothing.txt' is no file or folder here"),
        (("pairs.jsonl", "--dry-run", "--limit", "3"), "takes no --limit, --dry-run"),
        (("run.yaml", "--fix"), "'run.yaml' is a config, which takes no --fix"),
    ],
)
def test_validate_refuses_a_wrong_request(
    tmp_path: Path, pairwright, monkeypatch: pytest.MonkeyPatch, arguments, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")

    refused = pairwright("validate", *arguments)

    assert refused.code == 2
    assert message in refused.err
    assert one_sentence(refused.err)


def test_a_folder_is_no_file_of_pairs(tmp_path: Path, pairwright) -> None:
    refused = pairwright("validate", tmp_path)
    assert refused.code == 2
    assert "is a folder; expected one file of pairs" in refused.err


def test_export_makes_a_dataset_of_a_file(tmp_path: Path, pairwright) -> None:
    from curation.formats.trl import read_dataset

    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIRS[0]) + "\n")

    nowhere = pairwright("export", file)
    done = pairwright("export", file, "--to", tmp_path / "set", "test_share=0")

    assert nowhere.code == 2
    assert "expected --to DIR" in nowhere.err
    assert done.code == 0, done.err
    (row,) = read_dataset(tmp_path / "set")["train"]
    assert row["chosen"] == [{"role": "assistant", "content": "A wren."}]
    assert (tmp_path / "set" / "README.md").exists()


def test_export_of_a_run_refuses_what_only_a_file_takes(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    refused = pairwright("export", inputs / "run.yaml", "--to", tmp_path / "dataset")

    assert refused.code == 2
    assert "is a config, which takes no --to; that goes with a FILE" in refused.err
    assert not (tmp_path / "dataset").exists()


def test_export_for_kto_tells_the_weights_that_balance_the_labels(
    tmp_path: Path, pairwright
) -> None:
    from datasets import load_dataset

    rows = [{"prompt": "Name a bird.", "chosen": "A wren.", "rejected": f"{n}"} for n in range(3)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    done = pairwright("export", file, "--to", tmp_path / "set", "--format=kto", "test_share=0")

    assert done.code == 0, done.err
    assert "1 desirable and 3 undesirable" in done.out
    assert "desirable_weight=3" in done.out
    dataset = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(dataset["label"]) == [False, False, False, True]


def test_torchrun_trains_with_two_processes_and_one_writer(inputs: Path, run_copy: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "-m",
            "pairwright",
            "dpo",
            str(inputs / "run.yaml"),
            f"run={run_copy}",
            "dpo.trainer.num_train_epochs=1",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dpo") == 1
    facts = RunFolder(run_copy).stage("dpo").completed().facts
    assert facts["world_size"] == 2


def test_other_verbs_refuse_torchrun(
    inputs: Path, tmp_path: Path, pairwright, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    for verb in ("run", "generate"):
        refused = pairwright(verb, inputs / "run.yaml", "--run", tmp_path / "run")
        assert refused.code == 2
        assert "runs in one process" in refused.err


def test_the_shell_completes_runs_and_pair_ids(
    inputs: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(inputs)
    pair_id = _any_pair(whole_run)
    monkeypatch.setenv("_PAIRWRIGHT_COMPLETE", "complete_bash")

    for words, number, expected in (
        ("pairwright show ru", 2, "run"),
        (f"pairwright trace run {pair_id[:8]}", 3, pair_id),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        main([])
        assert expected in capsys.readouterr().out.split()


def _any_pair(run: Path) -> str:
    return str(pq.read_table(run / "pair" / "part-00000.parquet", columns=["id"])["id"][0])
