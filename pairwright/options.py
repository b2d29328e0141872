"""The arguments and options that commands share, and how a shell completes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def _complete_run(incomplete: str) -> Iterator[str]:
    """Run folders, and folders that hold some."""
    for folder in sorted(Path().glob(f"{incomplete}*")):
        if any(folder.glob("*/manifest.json")):
            yield str(folder)
        elif any(folder.glob("*/*/manifest.json")):
            yield f"{folder}/"


def _complete_run_or_config(incomplete: str) -> Iterator[str]:
    yield from _complete_run(incomplete)
    yield from map(str, sorted(Path().glob(f"{incomplete}*.y*ml")))


def complete_traced(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Pair ids of the run named before, and prompt ids where its policy was trained online."""
    from pairwright.trace.history import pair_ids
    from pairwright.trace.rollouts import online_stage, prompt_ids
    from schemas.run_folder import RunFolder

    run = RunFolder(Path(ctx.params["run"]))
    prompts = prompt_ids(run) if online_stage(run) is not None else ()
    for traced in (*pair_ids(run), *prompts):
        if traced.startswith(incomplete):
            yield traced


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", show_default=False)]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", autocompletion=_complete_run)]
RunOrConfig = Annotated[
    Path, typer.Argument(metavar="RUN|CONFIG.yaml", autocompletion=_complete_run_or_config)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Config keys to set, such as generate.n=8."),
]
RunOption = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="The run's folder, not the config's.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Take only the first N prompts.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; load no weights, write nothing.")
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="Sample only part K (from 0) of N."),
]
Fix = Annotated[
    bool, typer.Option("--fix", help="Mend a FILE's repeated prompts and half characters.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="PATH", help="Check tokens with this model's template."),
]
ChatTemplate = Annotated[
    Path | None,
    typer.Option(
        "--chat-template",
        metavar="FILE",
        help="A Jinja template for a model without one; the same as model.chat_template=FILE.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; all else goes to stderr.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
DebugSft = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show, before training, the first rows with the tokens that are trained on marked; "
        "and where an error comes from.",
    ),
]


Item = Annotated[
    str | None,
    typer.Option("--item", metavar="COL[,COL]", help="What was voted on; by default, by name."),
]
Left = Annotated[str | None, typer.Option("--left", metavar="COL", help="The one side.")]
Right = Annotated[str | None, typer.Option("--right", metavar="COL", help="The other side.")]
VotedBy = Annotated[str | None, typer.Option("--annotator", metavar="COL", help="Who voted.")]
WinnerColumn = Annotated[
    str | None,
    typer.Option("--winner", metavar="COL", help="left, right or tie, or a side's own name."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label", metavar="COL", help="A label, where there are no two sides."),
]
AnnotatorColumns = Annotated[
    str | None,
    typer.Option("--annotators", metavar="COL,COL", help="One column of answers an annotator."),
]
VotesColumn = Annotated[
    str | None,
    typer.Option("--votes", metavar="COL", help="One column with all the answers to an item."),
]
Values = Annotated[
    str | None,
    typer.Option(
        "--values", metavar="left=X,right=Y,tie=Z", help="The file's own words for a winner."
    ),
]


def with_template(overrides: list[str] | None, file: Path | None) -> list[str]:
    """The overrides, and the one that --chat-template stands for."""
    template = [] if file is None else [f"model.chat_template={json.dumps(str(file))}"]
    return [*(overrides or ()), *template]
