"""`latentvla score`: print the score table of the evaluation, or score a file of plans."""

import argparse
import textwrap
from pathlib import Path

from pipelines.commands.target import add_target_arguments, lake_of
from pipelines.commands.text import COLUMNS, rows_text
from storage.lake import Lake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "plans",
        type=Path,
        nargs="?",
        help="Parquet with log_id, frame_index, planner, poses, dt_s; without it: print the score "
        "table of the lake's evaluation",
    )
    parser.add_argument(
        "--versions", default="v1,v2", help="v1 (PDMS), v2 (EPDMS) or both; default: v1,v2"
    )
    parser.add_argument(
        "--expect-split",
        default="",
        metavar="SPLIT",
        help="train | val | test: also count the scenes of this split that have no plan",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="results, one row a plan and version: a file .parquet or .csv; default: beside PLANS",
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="logs that are scored at the same time"
    )
    parser.add_argument(
        "--against-devkit",
        type=Path,
        metavar="METRIC_CACHE",
        help="also score with the installed NAVSIM devkit, from its metric cache, and print the "
        "differences",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the score table of the evaluation, or score a file of plans on the lake's scenes."""
    if options.plans is None:
        print(score_text(lake_of(options)))
        return 0
    from pipelines.commands.score_plans import score_file

    print(
        score_file(
            options.plans,
            lake_of(options),
            versions=options.versions,
            expect_split=options.expect_split,
            out=options.out,
            processes=options.processes,
            devkit_cache=options.against_devkit,
        )
    )
    return 0


def score_text(lake: Lake) -> str:
    """The score table of the evaluation: one row per planner, best first. Raises ArtifactError if
    the lake has no evaluation.
    """
    from ops.evaluation.config import SCORE_TABLE_MEASURES
    from ops.evaluation.score_table import read_score_table

    table = read_score_table(lake.asset("evaluation"))
    rows = [
        {"planner": planner}
        | {table.short_title(name): table.text(planner, name) for name in SCORE_TABLE_MEASURES}
        for planner in table.planners
    ]
    title = f"{table.n_expected} scenes of the test logs; scores in %, distances in metres"
    notes = [table.footnote] if table.footnote else []
    if table.unscored:
        counts = ", ".join(f"{planner} {count}" for planner, count in table.unscored.items())
        notes.append(f"scenes without a score: {counts}; why: evaluation/scores.csv, column reason")
    return "\n".join([title, rows_text(rows), *(textwrap.fill(note, COLUMNS) for note in notes)])


def zero_shot_lines(lake: Lake) -> list[str]:
    """The open-loop tables of the zero-shot logs, one a convention; empty if the evaluation has
    none.
    """
    from ops.evaluation.open_loop import CONVENTIONS, open_loop_rows, read_open_loop

    table = read_open_loop(lake.asset("evaluation"))
    if table is None:
        return []

    def cell(value: str | float | None) -> str:
        return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

    meaning = {
        "at": "@k: error at k s, as UniAD reports",
        "upto": "<=k: mean up to k s, as ST-P3 and VAD report",
    }
    lines = [
        "",
        "zero shot, open loop where nothing was trained: L2 in metres, collisions (col) in %, "
        "n rows",
    ]
    for convention in CONVENTIONS:
        rows = [
            {name: cell(value) for name, value in row.items()}
            for row in open_loop_rows(table, (convention,))
        ]
        lines += [meaning[convention], rows_text(rows)]
    return lines
