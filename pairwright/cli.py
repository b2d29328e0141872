"""The command line: what can be asked, and nothing of how it is done."""

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from pairwright.errors import INTERRUPTED, report_error
from pairwright.labels.cli import label_app
from pairwright.options import (
    AnnotatorColumns,
    AsJson,
    ChatTemplate,
    ConfigFile,
    Debug,
    DebugSft,
    DryRun,
    Fix,
    Item,
    LabelColumn,
    Left,
    Limit,
    Model,
    Overrides,
    Right,
    RunOption,
    RunOrConfig,
    RunPath,
    Shard,
    Values,
    VotedBy,
    VotesColumn,
    WinnerColumn,
    complete_traced,
    with_template,
)
from pairwright.output import open_streams, quiet_libraries
from pairwright.vote_files import ColumnOptions, VotingMethod

_UNDER_TORCHRUN = "under torchrun too, where run=DIR stands for --run."

app = typer.Typer(
    name="pairwright",
    help="From prompts to a trained policy, every preference accounted for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(label_app, name="label")


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    limit: Limit = None,
    chat_template: ChatTemplate = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do the whole road, from prompts to report, and go on where it was stopped."""
    from pairwright import commands

    overrides = with_template(overrides, chat_template)
    commands.run_road(config, overrides, run_path, limit, dry_run=dry_run, as_json=as_json)


@app.command()
def rounds(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    limit: Limit = None,
    chat_template: ChatTemplate = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Repeat the road from the newest policy, `rounds.count` times or until a round gains nothing.

    Each round is a run of its own in the folder; the same command goes on where it was stopped.
    """
    from pairwright.rounds.commands import run_rounds

    overrides = with_template(overrides, chat_template)
    run_rounds(config, overrides, run_path, limit, dry_run=dry_run, as_json=as_json)


@app.command()
def sft(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    limit: Limit = None,
    chat_template: ChatTemplate = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: DebugSft = False,
) -> None:
    """Fine-tune the model on conversations; the later stages start from what this makes.

    Under torchrun too, where run=DIR stands for --run.
    """
    from pairwright import commands

    overrides = with_template(overrides, chat_template)
    commands.run_stage(
        "sft",
        config,
        overrides,
        run_path,
        limit,
        None,
        dry_run=dry_run,
        as_json=as_json,
        rows=debug,
    )


@app.command()
def generate(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    limit: Limit = None,
    shard: Shard = None,
    chat_template: ChatTemplate = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Sample candidates from the SFT model, with its own chat template."""
    from pairwright import commands

    overrides = with_template(overrides, chat_template)
    commands.run_stage(
        "generate", config, overrides, run_path, limit, shard, dry_run=dry_run, as_json=as_json
    )


def _stage_command(stage: str) -> Callable[..., None]:
    def command(
        config: ConfigFile,
        overrides: Overrides = None,
        run_path: RunOption = None,
        limit: Limit = None,
        chat_template: ChatTemplate = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
        debug: Debug = False,
    ) -> None:
        from pairwright import commands

        overrides = with_template(overrides, chat_template)
        commands.run_stage(
            stage, config, overrides, run_path, limit, None, dry_run=dry_run, as_json=as_json
        )

    return command


for _stage, _help in {
    "rank": "Judge the candidates with the configured rewards.",
    "pair": "Propose pairs; each prompt that gives none has a reason.",
}.items():
    app.command(_stage, help=_help)(_stage_command(_stage))


@app.command()
def aggregate(
    target: Annotated[Path, typer.Argument(metavar="CONFIG.yaml|VOTES")],
    overrides: Overrides = None,
    method: Annotated[
        VotingMethod | None,
        typer.Option("--method", help="How VOTES are weighed; default: majority."),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option("--gold", metavar="COL", help="Right answers, to compare the methods by."),
    ] = None,
    item: Item = None,
    left: Left = None,
    right: Right = None,
    annotator: VotedBy = None,
    winner: WinnerColumn = None,
    label: LabelColumn = None,
    annotators: AnnotatorColumns = None,
    votes: VotesColumn = None,
    values: Values = None,
    chat_template: ChatTemplate = None,
    run_path: RunOption = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Conclude from votes: a run's rankings, or what a CSV, JSONL or Parquet file's votes say."""
    from pairwright import commands

    columns = ColumnOptions(item, left, right, annotator, winner, label, annotators, votes, values)
    if commands.is_config(target):
        commands.refuse_options(target, {"--method": method, "--gold": gold, **columns.given()})
        overrides = with_template(overrides, chat_template)
        commands.run_stage(
            "aggregate", target, overrides, run_path, limit, None, dry_run=dry_run, as_json=as_json
        )
    else:
        run_only = {"--run": run_path, "--limit": limit, "--dry-run": dry_run}
        commands.refuse_options(target, run_only | {"key=value": bool(overrides)})
        commands.aggregate_file(target, columns, method or "majority", gold, as_json=as_json)


@app.command()
def agreement(
    target: Annotated[Path, typer.Argument(metavar="CONFIG.yaml|VOTES")],
    overrides: Overrides = None,
    order: Annotated[
        str | None,
        typer.Option("--order", metavar="LABEL,LABEL", help="Labels from low to high."),
    ] = None,
    item: Item = None,
    left: Left = None,
    right: Right = None,
    annotator: VotedBy = None,
    winner: WinnerColumn = None,
    label: LabelColumn = None,
    annotators: AnnotatorColumns = None,
    votes: VotesColumn = None,
    values: Values = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """How well annotators agree: those of a config's dataset, or of a file of votes."""
    from pairwright import commands

    columns = ColumnOptions(item, left, right, annotator, winner, label, annotators, votes, values)
    if commands.is_config(target):
        commands.refuse_options(target, {"--order": order, **columns.given()})
        commands.agreement_of_run(target, overrides, as_json=as_json)
    else:
        commands.refuse_options(target, {"key=value": bool(overrides)})
        commands.agreement_file(target, columns, order, as_json=as_json)


@app.command()
def validate(
    target: Annotated[Path, typer.Argument(metavar="CONFIG.yaml|FILE")],
    overrides: Overrides = None,
    model: Model = None,
    fix: Fix = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the FILE's quarantine goes."),
    ] = None,
    chat_template: ChatTemplate = None,
    run_path: RunOption = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Pass pairs through the gate: a run's, or those of a JSONL, Parquet or CSV file.

    For a FILE, the overrides are the gate's own keys, such as max_length=512.
    """
    from pairwright import commands

    overrides = with_template(overrides, chat_template)
    if commands.is_config(target):
        commands.refuse_options(target, {"--model": model, "--fix": fix, "--out": out})
        commands.run_stage(
            "validate", target, overrides, run_path, limit, None, dry_run=dry_run, as_json=as_json
        )
    else:
        commands.refuse_options(target, {"--run": run_path, "--limit": limit, "--dry-run": dry_run})
        commands.validate_file(target, overrides, model, out, fix=fix, as_json=as_json)


@app.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="CONFIG.yaml|FILE")],
    overrides: Overrides = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where a FILE's dataset goes.")
    ] = None,
    form: Annotated[
        Literal["trl", "kto"],
        typer.Option("--format", help="What a FILE's dataset holds: pairs, or labelled answers."),
    ] = "trl",
    model: Model = None,
    fix: Fix = False,
    chat_template: ChatTemplate = None,
    run_path: RunOption = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the dataset that TRL reads: of a run, or of a file's pairs that pass the gate."""
    from pairwright import commands

    overrides = with_template(overrides, chat_template)
    if commands.is_config(target):
        commands.refuse_options(
            target, {"--to": to, "--format kto": form == "kto", "--model": model, "--fix": fix}
        )
        commands.run_stage(
            "export", target, overrides, run_path, limit, None, dry_run=dry_run, as_json=as_json
        )
    else:
        commands.refuse_options(target, {"--run": run_path, "--limit": limit, "--dry-run": dry_run})
        commands.export_file(target, overrides, model, to, form=form, fix=fix, as_json=as_json)


for _stage, _help in {
    "reward": f"Train a reward model on the dataset; {_UNDER_TORCHRUN}",
    "dpo": f"Train the policy on the dataset; {_UNDER_TORCHRUN}",
    "grpo": "Train the policy on its own answers, each weighed against others to the same prompt; "
    f"{_UNDER_TORCHRUN}",
    "ppo": "Train the policy on its own answers and a value model that foresees their reward; "
    f"{_UNDER_TORCHRUN}",
    "evaluate": "Compare the policy with the SFT model on held-out prompts.",
}.items():
    app.command(_stage, help=_help)(_stage_command(_stage))


@app.command()
def show(target: RunOrConfig, as_json: AsJson = False, debug: Debug = False) -> None:
    """A run's stages: what they counted, what left the road, which are stale."""
    from pairwright import commands

    commands.show(target, as_json=as_json)


@app.command()
def report(run: RunPath, as_json: AsJson = False, debug: Debug = False) -> None:
    """Write report.html and report.json from what the run stored."""
    from pairwright import commands

    commands.report(run, as_json=as_json)


@app.command()
def trace(
    run: RunPath,
    wanted: Annotated[
        str, typer.Argument(metavar="PAIR_ID|PROMPT_ID", autocompletion=complete_traced)
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """A pair's history, from the prompt to the optimiser steps that trained on it.

    Where the policy was trained online, a prompt's: every answer that was learned from, its step,
    rewards and advantage. The start of the id is enough where it is unique.
    """
    from pairwright import commands

    commands.trace(run, wanted, as_json=as_json)


@app.command()
def chat(
    target: RunOrConfig,
    overrides: Overrides = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ask the SFT model and the trained policy side by side; /new starts afresh.

    A run that has only fine-tuned so far shows the base model beside what it became.
    """
    from pairwright import commands

    commands.chat(target, overrides, as_json=as_json)


@app.command()
def forget(
    run: RunPath,
    annotator: Annotated[
        str | None, typer.Option("--annotator", metavar="NAME", help="A person's answers.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="ID", help="A prompt and all about it.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove an annotator or a prompt for good, with all that was made from them."""
    from pairwright import commands

    commands.forget(run, annotator, prompt, as_json=as_json)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="CONFIG.yaml")] = Path("pairwright.yaml"),
    debug: Debug = False,
) -> None:
    """Write a commented config to start from."""
    from pairwright import commands

    commands.init(path)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what a run needs and this machine lacks."""
    from pairwright import commands

    commands.doctor(config, as_json=as_json)


@app.command()
def selftest(as_json: AsJson = False, debug: Debug = False) -> None:
    """Send pairs with a known winner down the whole road and see that none is swapped."""
    from pairwright import commands

    commands.selftest(as_json=as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command: 0 done, 1 data failed, 2 wrong request, 3 environment."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    open_streams()
    quiet_libraries()
    try:
        code = app(args=arguments, prog_name="pairwright", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            traceback.print_exception(error)
        return report_error(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0
