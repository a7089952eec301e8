"""What `latentvla score PLANS` does and prints: scores a file, writes the results, tells the means.
No score is computed here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipelines.commands.status import rows_text
from storage.errors import ConfigError
from storage.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa

REASONS_SHOWN = 12  # kinds of reasons that are printed; the file has them all


def score_file(
    plans: Path,
    lake: Lake,
    *,
    versions: str,
    expect_split: str,
    out: Path | None,
    processes: int,
    devkit_cache: Path | None = None,
) -> str:
    """Score a file of plans, write one row a plan and version to `out`, and tell what came of it.

    `out` ends in .parquet or .csv; None: beside the plans. `devkit_cache` is a metric cache of the
    NAVSIM devkit: the devkit scores the plans too, in the version that is installed, and the
    differences are told. Raises ConfigError for another ending, for what is no file of plans, an
    unknown version or split, and where the devkit is missing.
    """
    from ops.devkit.find import require_devkit
    from ops.pdm.score_file import score_plans

    out = plans.with_suffix(".scores.parquet") if out is None else out
    if out.suffix not in (".parquet", ".csv") or out.absolute() == plans.absolute():
        raise ConfigError(
            "results are written as Parquet or CSV, beside the plans and not over them",
            where=out,
            expected="another file .parquet or .csv",
        )
    names = tuple(name.strip() for name in versions.split(",") if name.strip())
    if devkit_cache is not None:
        names = (require_devkit(),)
    results = score_plans(
        plans, lake, versions=cast(Any, names), expect_split=expect_split, processes=processes
    )
    write_results(results, out)
    lines = [*means_lines(results), *unscored_lines(results)]
    if devkit_cache is not None:
        lines += difference_lines(results, plans, lake, devkit_cache)
    return "\n".join([*lines, f"results: {out}"])


def write_results(results: "pa.Table", out: Path) -> None:
    """Write results as Parquet or CSV, by the ending of the name."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        pyarrow.csv.write_csv(results, out)
    else:
        pq.write_table(results, out)


def means_lines(results: "pa.Table") -> list[str]:
    """A table a metric version: planner, split, n scored of n expected, means times 100; best
    first.
    """
    from ops.pdm.score_file import PARTS, means_of

    lines: list[str] = []
    means = means_of(results)
    for version in dict.fromkeys(mean.metric_version for mean in means):
        own = [mean for mean in means if mean.metric_version == version]
        names = [name for name in PARTS if any(name in mean.means for mean in own)]
        own.sort(key=lambda mean: -mean.means.get("score", -1.0))
        rows = [
            {
                "planner": mean.planner,
                "split": mean.split or "?",
                "scored": f"{mean.n_scored}/{mean.n_expected}",
                **{
                    name: f"{100 * mean.means[name]:.1f}" if name in mean.means else "-"
                    for name in names
                },
            }
            for mean in own
        ]
        lines += [f"{version}, shares times 100", rows_text(rows), ""]
    return lines


def unscored_lines(results: "pa.Table") -> list[str]:
    """Which plans have no score, by reason; empty if all have one."""
    found: dict[str, dict[tuple[str, str, int], None]] = {}
    for row in results.to_pylist():
        if not row["scored"]:
            found.setdefault(row["reason"], {})[
                row["planner"], row["log_id"], row["frame_index"]
            ] = None
    if not found:
        return []
    lines = [f"not scored: {sum(map(len, found.values()))} plans"]
    for reason, plans in sorted(found.items(), key=lambda item: -len(item[1]))[:REASONS_SHOWN]:
        lines.append(f"  {len(plans):6d}  {reason}: {_examples(list(plans))}")
    if len(found) > REASONS_SHOWN:
        lines.append(f"  and {len(found) - REASONS_SHOWN} more reasons, in the results")
    return [*lines, ""]


def difference_lines(results: "pa.Table", plans: Path, lake: Lake, devkit_cache: Path) -> list[str]:
    """What differs between our results and the devkit's, by column, and what the devkit did not
    score.
    """
    from ops.devkit.compare import TOLERANCE, devkit_results, differences

    theirs = devkit_results(plans, lake, devkit_cache)
    # rows of plans that are missing come last
    found = differences(results.slice(0, len(theirs)), theirs)
    rows = [
        {
            "value": item.column,
            "compared": item.compared,
            f"differ by > {TOLERANCE:g}": item.differing,
            "largest": f"{item.largest:.3g}",
            "at": item.where,
        }
        for item in found
    ]
    unscored = [
        f"the devkit: {line}" if at == 0 else line for at, line in enumerate(unscored_lines(theirs))
    ]
    return ["against the NAVSIM devkit", rows_text(rows), "", *unscored]


def _examples(plans: Sequence[tuple[str, str, int]], count: int = 3) -> str:
    words = [
        f"{planner} at log {log_id}, frame {frame}" for planner, log_id, frame in plans[:count]
    ]
    return "; ".join([*words, "..."] if len(plans) > count else words)
