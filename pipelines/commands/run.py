"""`latentvla run`: make every asset that is not current, and print what was done and the scores."""

import argparse
import textwrap
from typing import TYPE_CHECKING

from pipelines.commands.memory import peak_memory
from pipelines.commands.score import score_text, zero_shot_lines
from pipelines.commands.target import add_target_arguments, pipeline_of
from pipelines.commands.text import COLUMNS
from storage.asset_names import ASSET_NAMES, PER_LOG_ASSETS
from storage.lake import Lake

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline
    from pipelines.work import Again, RunSummary

MAX_LOGS = 20  # quarantined logs that are named at the end of a run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--until",
        metavar="ASSET",
        default=ASSET_NAMES[-1],
        help=f"last asset to make: {' | '.join(ASSET_NAMES)}; default: {ASSET_NAMES[-1]}",
    )
    parser.add_argument(
        "--again",
        action="append",
        default=[],
        metavar="ASSET[/LOG]",
        help="make this again although it is current: student, frames, frames/LOG; may be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="show Dagster's own log")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the pipeline: make every asset that is not current."""
    from pipelines.work import made_again, nothing_to_do, require_inputs

    pipeline = pipeline_of(options)
    require_inputs(pipeline, options.until)
    again = made_again(pipeline, options.until, options.again)
    with peak_memory() as peak:
        summary = nothing_to_do(pipeline, options.until) if again.is_empty else None
        summary = summary or _make(pipeline, options, again)
    print(format_run_summary(pipeline.lake, summary, options.until, peak.mb))
    return 1 if summary.failures else 0


def _make(pipeline: "Pipeline", options: argparse.Namespace, again: "Again") -> "RunSummary":
    from pipelines.execution import run_pipeline
    from pipelines.history import open_history

    with open_history(pipeline.lake_root) as instance:
        return run_pipeline(pipeline, options.until, instance, verbose=options.verbose, again=again)


def format_run_summary(lake: Lake, summary: "RunSummary", until: str, peak_mb: float) -> str:
    """What a run made, the time and memory it took, the quarantined logs, and the scores; or why it
    failed.
    """
    from ops.vla.verdict import read_verdict
    from pipelines.work import assets_until

    if summary.failures:
        return "\n".join(
            [
                f"\nfailed after {summary.seconds:.0f} s:",
                *(f"  {failure}" for failure in summary.failures),
                *_quarantine_lines(summary),
                "the run's log is in Dagster's UI: dagster dev",
            ]
        )
    lines = ["", *_time_lines(summary, until, peak_mb), *_checked_lines(summary)]
    lines += _quarantine_lines(summary)
    if summary.ends_at:
        return "\n".join([*lines, "", summary.ends_at])
    verdict = read_verdict(lake.asset("vla")) if "vla" in assets_until(until) else None
    lines += ["", textwrap.fill(verdict.text, COLUMNS)] if verdict is not None else []
    if until in ("evaluation", "report"):
        lines += ["", score_text(lake), *zero_shot_lines(lake)]
    if until == "report":
        lines += ["", f"report: {(lake.asset('report') / 'report.html').absolute()}"]
    return "\n".join(lines)


def _quarantine_lines(summary: "RunSummary") -> list[str]:
    """The number of quarantined logs, and the first of them with their reasons."""
    held = list(summary.quarantined.items())
    if not held:
        return []
    shown = [f"    {log}: {record.reason.splitlines()[0]}" for log, record in held[:MAX_LOGS]]
    more = [f"    ... and {len(held) - MAX_LOGS} more"] if len(held) > MAX_LOGS else []
    if late := summary.set_aside_meanwhile:
        more.append(
            f"  set aside during this run: {', '.join(late[:MAX_LOGS])}; what was made of it "
            "before is stale: latentvla run"
        )
    logs = "1 log" if len(held) == 1 else f"{len(held)} logs"
    return [f"  {logs} quarantined (whole reasons: latentvla status):", *shown, *more]


def _checked_lines(summary: "RunSummary") -> list[str]:
    """What was made before and has only been checked now."""
    named = [
        f"{asset} ({number} {'log' if number == 1 else 'logs'})"
        if asset in PER_LOG_ASSETS
        else asset
        for asset, number in summary.checked.items()
    ]
    return [f"  only checked, as it was made before: {', '.join(named)}"] if named else []


def _time_lines(summary: "RunSummary", until: str, peak_mb: float) -> list[str]:
    if not summary.seconds_by_asset:
        return [f"nothing to do: every asset up to '{until}' is current ({summary.seconds:.1f} s)"]
    lines = [
        f"  {asset:<14}{seconds:8.1f} s {100 * seconds / summary.seconds:5.0f} %"
        for asset in ASSET_NAMES
        if (seconds := summary.seconds_by_asset.get(asset))
    ]
    total = f"  {'total':<14}{summary.seconds:8.1f} s"
    return [*lines, f"{total}         peak memory {peak_mb / 1024:.2f} GB"]
