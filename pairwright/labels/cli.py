"""`pairwright label`: asking people in Argilla, and fetching what they answered."""

from pathlib import Path
from typing import Annotated

import typer

from pairwright.options import AsJson, ConfigFile, Debug, Overrides, RunOption

label_app = typer.Typer(
    help="Ask people in Argilla and fetch what they answered.", no_args_is_help=True
)

Annotator = Annotated[str, typer.Argument(metavar="ANNOTATOR", help="The user name.")]


@label_app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.yaml]", help="Push its records and open its dataset too."),
    ] = None,
    overrides: Overrides = None,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="Where the server keeps its data.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Default: 6900, or a free one.")
    ] = None,
    run_path: RunOption = None,
    debug: Debug = False,
) -> None:
    """Run an Argilla of your own until Ctrl-C; the first time, it installs itself."""
    from pairwright.labels import commands

    commands.serve(config, overrides, run_path, home=home, port=port)


@label_app.command()
def password(
    annotator: Annotator,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="Where the server keeps its data.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Give somebody a new password on the server that `serve` runs, and show it once."""
    from pairwright.labels import commands

    commands.password(annotator, home, as_json=as_json)


@label_app.command()
def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what would be asked of whom, and about how long it takes; nothing is sent."""
    from pairwright.labels import commands

    commands.plan(config, overrides, run_path, as_json=as_json)


@label_app.command()
def push(
    config: ConfigFile,
    overrides: Overrides = None,
    following: Annotated[
        int | None,
        typer.Option(
            "--next", min=1, metavar="N", help="The N pairs that most deserve another vote."
        ),
    ] = None,
    run_path: RunOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put the run's candidates before annotators; what is there already is left alone."""
    from pairwright.labels import commands

    commands.push(config, overrides, run_path, following=following, as_json=as_json)


@label_app.command()
def status(
    config: ConfigFile,
    overrides: Overrides = None,
    width: Annotated[
        float,
        typer.Option(
            "--width", min=0.001, max=1, help="The interval width to say the labels left for."
        ),
    ] = 0.5,
    run_path: RunOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """How far annotators are, how well they agree, and how many labels more are worth it."""
    from pairwright.labels import commands

    commands.status(config, overrides, run_path, width=width, as_json=as_json)


@label_app.command()
def pull(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Fetch exactly what people answered, and make the run's stage `label` of it."""
    from pairwright.labels import commands

    commands.pull(config, overrides, run_path, as_json=as_json)


@label_app.command()
def suggest(
    config: ConfigFile,
    overrides: Overrides = None,
    run_path: RunOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Attach the machine ranking to records that people have completed."""
    from pairwright.labels import commands

    commands.suggest(config, overrides, run_path, as_json=as_json)


@label_app.command()
def adjudicate(
    config: ConfigFile,
    overrides: Overrides = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most N pairs.")
    ] = None,
    run_path: RunOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put the pairs that annotators disagree on before label.adjudicators, whose answer wins."""
    from pairwright.labels import commands

    commands.adjudicate(config, overrides, run_path, limit, as_json=as_json)


@label_app.command()
def exclude(
    config: ConfigFile,
    annotator: Annotator,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.", show_default=False)],
    overrides: Overrides = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Count an annotator's votes no longer; they are kept, and `include` counts them again."""
    from pairwright.labels import commands

    commands.decide(config, overrides, annotator, "exclude", reason, as_json=as_json)


@label_app.command()
def include(
    config: ConfigFile,
    annotator: Annotator,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.", show_default=False)],
    overrides: Overrides = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Count an excluded annotator's votes again."""
    from pairwright.labels import commands

    commands.decide(config, overrides, annotator, "include", reason, as_json=as_json)
