"""What each command does: open what it names, do the work, print what came of it."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import RenderableType
from rich.text import Text

from pairwright.errors import CheckError
from pairwright.output import Output
from pairwright.plan import Plan
from pairwright.progress import Progress
from pairwright.road import (
    Made,
    check_road,
    check_stage,
    counted,
    find_modules_beside,
    holds_rounds,
    make_road,
    make_stage,
    open_plan,
    refuse_rounds,
    stored_plan,
)
from pairwright.show import made_rows, plan_table, reason_table, run_rows, stage_table
from pairwright.stages.training import rank
from pairwright.vote_files import (
    ColumnOptions,
    VotingMethod,
    check_any_vote,
    check_is_file,
    conclude,
)
from schemas.run_folder import RunFolder

if TYPE_CHECKING:
    from pairwright.pair_files import CheckedFile, Exported


def is_config(path: Path) -> bool:
    return path.suffix.lower() in {".yaml", ".yml"}


def refuse_options(target: Path, given: Mapping[str, object]) -> None:
    """Return if none of the options is set, as they mean nothing to such a target.

    Raises:
        ValueError: one is.
    """
    named = ", ".join(name for name, value in given.items() if value)
    if named:
        kind, other = ("config", "FILE") if is_config(target) else ("file of pairs", "CONFIG.yaml")
        raise ValueError(
            f"'{target}' is a {kind}, which takes no {named}; that goes with a {other}"
        )


def run_road(
    config: Path,
    overrides: Sequence[str] | None,
    run: Path | None,
    limit: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        plan = open_plan(config, overrides or (), run=run, limit=limit)
        stages = check_road(plan)
        made = None if dry_run else make_road(plan, Progress())
    if made is None:
        _print_steps(output, plan, stages)
    else:
        _print_made(output, plan, made, report=plan.run.path / "report.html")


def run_stage(
    stage: str,
    config: Path,
    overrides: Sequence[str] | None,
    run: Path | None,
    limit: int | None,
    shard: str | None,
    *,
    dry_run: bool,
    as_json: bool,
    rows: bool = False,
) -> None:
    output = Output(as_json=as_json)
    with output.working():
        plan = open_plan(config, overrides or (), run=run, limit=limit)
        stages = check_stage(plan, stage)
        if rows and rank() == 0:
            _show_masked_rows(plan, Progress())
        made = None if dry_run else make_stage(plan, stage, Progress(), shard=shard)
    if made is None:
        _print_steps(output, plan, stages)
    elif rank() == 0:
        _print_made(output, plan, made)


def validate_file(
    file: Path,
    overrides: Sequence[str] | None,
    model: str | None,
    out: Path | None,
    *,
    fix: bool,
    as_json: bool,
) -> None:
    from pairwright.pair_files import check_file, read_gate

    output = Output(as_json=as_json)
    with output.working():
        checked = check_file(file, read_gate(overrides or (), model), fix=fix, out=out)
    _print_checked(output, file, checked, None)


def export_file(
    file: Path,
    overrides: Sequence[str] | None,
    model: str | None,
    to: Path | None,
    *,
    form: Literal["trl", "kto"],
    fix: bool,
    as_json: bool,
) -> None:
    from pairwright.pair_files import check_file, export_checked, read_gate

    if to is None:
        raise ValueError(f"'{file}' is a file of pairs; expected --to DIR for its dataset")
    output = Output(as_json=as_json)
    with output.working():
        gate = read_gate(overrides or (), model)
        checked = check_file(file, gate, fix=fix, out=to)
        exported = None if checked.result.failed else export_checked(file, checked, to, form)
    _print_checked(output, file, checked, exported)


def aggregate_file(
    file: Path, columns: ColumnOptions, method: VotingMethod, gold: str | None, *, as_json: bool
) -> None:
    from pairwright.vote_views import verdict_data, verdict_views

    output = Output(as_json=as_json)
    with output.working():
        check_is_file(file)
        found = conclude(file, columns.read(), method, gold)
    output.result(verdict_data(found), *verdict_views(found))
    answers = len(found.file.votes) + len(found.file.labels)
    check_any_vote(file, answers, found.file.rejected, found.file.left_out)


def agreement_file(file: Path, columns: ColumnOptions, order: str | None, *, as_json: bool) -> None:
    from curation.agreement import agreement_of_file
    from pairwright.labels.views import agreement_views, annotator_views
    from pairwright.vote_views import read_views

    output = Output(as_json=as_json)
    labels = None if order is None else [label.strip() for label in order.split(",")]
    with output.working():
        check_is_file(file)
        found, rejected = agreement_of_file(file, columns.read(), order=labels)
    data = {**found.model_dump(mode="json"), "rejected_rows": [row._asdict() for row in rejected]}
    views = agreement_views({file.name: found.agreement})
    if found.annotators:
        views += annotator_views(found.annotators)
    output.result(data, *views, *read_views(rejected, found.left_out))
    check_any_vote(file, found.agreement.answers, rejected, found.left_out)


def agreement_of_run(config: Path, overrides: Sequence[str] | None, *, as_json: bool) -> None:
    from pairwright.labels.facts import agreement_so_far
    from pairwright.labels.views import agreement_views, annotator_views

    output = Output(as_json=as_json)
    with output.working():
        plan = open_plan(config, overrides or (), run=None, limit=None)
        refuse_rounds(plan.run.path)
        found = agreement_so_far(plan)
    output.result(
        found.data(), *agreement_views(found.questions), *annotator_views(found.annotators)
    )


def forget(run: Path, annotator: str | None, prompt: str | None, *, as_json: bool) -> None:
    from pairwright.forget import forget as forget_for_good

    output = Output(as_json=as_json)
    if annotator is not None and prompt is not None:
        raise ValueError("--annotator and --prompt are both given; expected one at a time")
    if annotator is None and prompt is None:
        raise ValueError("nothing to forget; expected --annotator NAME or --prompt ID")
    with output.working():
        plan = stored_plan(_existing(run))
        done = (
            forget_for_good(plan, "prompt", prompt)
            if annotator is None and prompt is not None
            else forget_for_good(plan, "annotator", annotator or "")
        )
    stone, deleted = done.tombstone, ", ".join(done.stages) or "nothing"
    server = (
        "the labelling server was not reached: delete there what it holds"
        if done.on_server is None
        else f"{done.on_server} deleted on the labelling server"
    )
    output.result(
        {
            **stone.model_dump(mode="json"),
            "deleted_on_server": done.on_server,
            "stages_deleted": done.stages,
            "other_runs": done.other_runs,
        },
        Text(
            f"{stone.judgements} answers and {stone.tasks} tasks are gone from "
            f"'{plan.annotations.folder}'; deleted of the run: {deleted}; {server}"
        ),
        *(
            Text(f"deleted of run '{path}', which has the same store: {', '.join(stages)}")
            for path, stages in done.other_runs.items()
        ),
    )


def show(target: Path, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with output.working():
        asked = open_plan(target, (), run=None, limit=None) if is_config(target) else None
        folder = target if asked is None else asked.run.path
    if holds_rounds(folder):
        from pairwright.rounds.commands import show_rounds

        show_rounds(folder, as_json=as_json)
        return
    with output.working():
        plan = asked or stored_plan(_existing(target))
        rows = run_rows(plan)
    output.result(
        {"run": str(plan.run.path), "stages": [row._asdict() for row in rows]}, stage_table(rows)
    )


def report(run: Path, *, as_json: bool) -> None:
    from pairwright.report.write import write_report

    if holds_rounds(run):
        from pairwright.rounds.commands import report_rounds

        report_rounds(run, as_json=as_json)
        return
    output = Output(as_json=as_json)
    with output.working():
        written = write_report(RunFolder.existing(run), run)
    output.result(
        {"html": str(written.html), "json": str(written.json)},
        Text(f"{written.html}\n{written.json}"),
    )


def trace(run: Path, wanted: str, *, as_json: bool) -> None:
    from pairwright.trace.history import trace_pair
    from pairwright.trace.rollouts import online_stage, prompt_history_view, trace_prompt
    from pairwright.trace.view import history_view

    folder = _existing(run)
    has_pairs = bool(folder.stage("pair").files())
    if wanted.startswith("p-") or (online_stage(folder) is not None and not has_pairs):
        asked = trace_prompt(folder, wanted)
        data, view = asked.model_dump_json(), prompt_history_view(asked)
    else:
        history = trace_pair(folder, wanted)
        data, view = history.model_dump_json(), history_view(history)
    Output(as_json=as_json).result(json.loads(data), view)


def chat(target: Path, overrides: Sequence[str] | None, *, as_json: bool) -> None:
    from pairwright.stages.training import load_fine_tuned, load_policies, only_fine_tuned
    from pairwright.terminal_chat import converse, read_lines, side_by_side

    output = Output(as_json=as_json)
    names = ("SFT model", "policy")
    with output.working():
        plan = _plan_of(target, overrides or ())
        if only_fine_tuned(plan):
            names = ("base model", "SFT model")
            base, policy = load_fine_tuned(plan)
        else:
            base, policy = load_policies(plan)
    lines = read_lines(sys.stdin, prompt=sys.stderr)
    said = []
    settings, seed = plan.config.evaluate, plan.config.seed
    for answers in converse(lines, base, policy, settings, seed=seed, names=names):
        said.append(answers._asdict())
        if not as_json:
            output.result(None, side_by_side(answers))
    if as_json:
        output.result(said)


def init(path: Path) -> None:
    from pairwright.init import write_config

    write_config(path)
    Output(as_json=False).result(
        None, Text(f"{path} written; edit it, then `pairwright run {path}`")
    )


def doctor(config_file: Path | None, *, as_json: bool) -> None:
    from pairwright.doctor import examine, findings_table
    from schemas.config_files import load_config
    from schemas.configs import Config

    output = Output(as_json=as_json)
    with output.working():
        config = None
        if config_file is not None:
            config = load_config(config_file, as_=Config)
            find_modules_beside(config_file)
        findings = examine(config)
    output.result([finding._asdict() for finding in findings], findings_table(findings))
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise CheckError(f"not ready: {', '.join(missing)}", after_result=True)


def selftest(*, as_json: bool) -> None:
    from pairwright.selftest.examine import examine_road, laws_table

    output = Output(as_json=as_json)
    with output.working():
        laws = examine_road(Progress())
    output.result([{**law._asdict(), "holds": law.holds} for law in laws], laws_table(laws))
    broken = [law.law for law in laws if not law.holds]
    if broken:
        message = f"{len(broken)} of {len(laws)} laws are broken: {'; '.join(broken)}"
        raise CheckError(message, after_result=True)


def _show_masked_rows(plan: Plan, progress: Progress) -> None:
    """The first rows of fine-tuning, with the tokens that are trained on marked, on stderr."""
    from dpo.conversations import masked_rows
    from pairwright.masked_rows import render_masked_rows

    sft = plan.config.sft
    if sft is not None:
        rows = masked_rows(sft.data, plan.config.model, sft)
        progress.console.print(render_masked_rows(rows), soft_wrap=True)


def _existing(run: Path) -> RunFolder:
    """The run in the folder.

    Raises:
        ValueError: there is none, or the folder holds rounds.
    """
    refuse_rounds(run)
    return RunFolder.existing(run)


def _plan_of(target: Path, overrides: Sequence[str] = ()) -> Plan:
    """What a config file, or the config that a run keeps, asks of the run."""
    if is_config(target):
        plan = open_plan(target, overrides, run=None, limit=None)
        refuse_rounds(plan.run.path)
        return plan
    return stored_plan(_existing(target), overrides)


def _print_steps(output: Output, plan: Plan, stages: Sequence[str]) -> None:
    from pairwright.dry_run import planned_steps

    with output.working():
        steps = planned_steps(plan, stages)
    output.result(
        {"run": str(plan.run.path), "plan": [step._asdict() for step in steps]}, plan_table(steps)
    )


def _print_made(
    output: Output, plan: Plan, made: Sequence[Made], report: Path | None = None
) -> None:
    rows = made_rows(made)
    data: dict[str, Any] = {
        "run": str(plan.run.path),
        "stages": [row._asdict() for row in rows],
    }
    views: list[RenderableType] = [stage_table(rows)]
    if report is not None:
        data["report"] = {"html": str(report), "json": str(report.with_suffix(".json"))}
        views.append(Text(f"report: {report}"))
    output.result(data, *views)


def _print_checked(
    output: Output, file: Path, checked: "CheckedFile", exported: "Exported | None"
) -> None:
    result = checked.result
    data = {
        "file": str(file),
        "counts": result.counts,
        "reasons": result.reasons,
        "warnings": result.warnings,
        "quarantine": str(checked.quarantine),
        "dataset": None if exported is None else exported.rows,
        "failed": result.failed,
    }
    views: list[RenderableType] = [Text(counted(result.counts))]
    if result.reasons:
        views.append(reason_table(result.reasons, result.counts["in"]))
    views += [Text(warning) for warning in result.warnings]
    views += [Text(note) for note in (exported.notes if exported else ())]
    views.append(Text(f"quarantine: {checked.quarantine}"))
    output.result(data, *views)
    if result.failed:
        kept_out, total = result.counts["quarantined"], result.counts["in"]
        message = (
            f"{kept_out} of {total} rows of '{file}' were quarantined, more than the share "
            f"max_quarantined={result.max_quarantined} allows"
        )
        raise CheckError(result.refusal or message, after_result=True)
