"""`latentvla score PLANS`: score a file of plans, write the results and format the means."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipelines.commands.text import rows_text
from storage.errors import ConfigError
from storage.lake import Lake
from storage.output_file import check_output, write_output
from storage.printable import printable

if TYPE_CHECKING:
    import pyarrow as pa

MAX_REASONS = 12  # reasons that are printed; the results file has them all


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
    """Score a file of plans, write one row a plan and version to `out`, and return the means, the
    plans without a score and the path of the results as text.

    `out` ends in .parquet or .csv; None: beside the plans. `devkit_cache` is a metric cache of the
    NAVSIM devkit: the devkit then scores the plans too, in the version that is installed, and the
    text lists the differences. Raises ConfigError for another ending, an `out` that is the plans or
    lies in the lake or cannot be written, a file that holds no plans, an unknown version or split,
    or if the devkit is missing.
    """
    from ops.devkit.find import require_devkit
    from ops.pdm.score_file import score_plans

    out = _default_out(plans) if out is None else out
    if out.suffix not in (".parquet", ".csv"):
        raise ConfigError(
            "results are written to a Parquet or CSV file",
            where=out,
            expected="a file .parquet or .csv",
            do="choose the file with --out",
        )
    keep = [plans, lake.root, *([devkit_cache] if devkit_cache is not None else [])]
    check_output(out, keep=keep)
    names = tuple(name.strip() for name in versions.split(",") if name.strip())
    if devkit_cache is not None:
        names = (require_devkit(),)
    results = score_plans(
        plans, lake, versions=cast(Any, names), expect_split=expect_split, processes=processes
    )
    write_results(results, out, keep=keep)
    lines = [*means_lines(results), *unscored_lines(results)]
    if devkit_cache is not None:
        lines += difference_lines(results, plans, lake, devkit_cache)
    return "\n".join([*lines, f"results: {out}"])


def write_results(results: "pa.Table", out: Path, *, keep: Iterable[Path] = ()) -> None:
    """Write results as Parquet or CSV, by the suffix of the file, which appears complete or not at
    all. Raises ConfigError as `storage.output_file.write_output` does.
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    with write_output(out, keep=keep) as file:
        if out.suffix == ".csv":
            pyarrow.csv.write_csv(results, file)
        else:
            pq.write_table(results, file)


def _default_out(plans: Path) -> Path:
    """`<plans>.scores.parquet` beside the plans."""
    if not plans.name:
        raise ConfigError(
            "there is no such file of plans",
            where=plans,
            expected="a Parquet file",
            found="a folder",
            do="name the file",
        )
    return plans.with_suffix(".scores.parquet")


def means_lines(results: "pa.Table") -> list[str]:
    """One table a metric version: planner, split, scored of expected, means in %; best first."""
    from ops.evaluation.score_table import epdms_title
    from ops.pdm.config import METRIC_NAMES
    from ops.pdm.score_file import SCORE_PARTS, means_of

    lines: list[str] = []
    means = means_of(results)
    for version in dict.fromkeys(mean.metric_version for mean in means):
        ranked = sorted(
            (mean for mean in means if mean.metric_version == version),
            key=lambda mean: -mean.means.get("score", -1.0),
        )
        names = [name for name in SCORE_PARTS if any(name in mean.means for mean in ranked)]
        rows = [
            {
                "planner": _short(mean.planner),
                "split": mean.split or "?",
                "scored": f"{mean.n_scored}/{mean.n_expected}",
                **{
                    name: f"{100 * mean.means[name]:.1f}" if name in mean.means else "-"
                    for name in names
                },
            }
            for mean in ranked
        ]
        title = version
        if version == METRIC_NAMES["v2"]:
            of_planner = {f"{mean.planner} in {mean.split or '?'}": mean.means for mean in ranked}
            title = epdms_title(of_planner, version, epdms="score", ec="ec")
        lines += [printable(f"{title}, in %"), rows_text(rows), ""]
    return lines


def unscored_lines(results: "pa.Table") -> list[str]:
    """The plans without a score, by reason; empty if all have one."""
    plans_by_reason: dict[str, dict[tuple[str, str, int], None]] = {}  # a plan counts once
    for row in results.to_pylist():
        if not row["scored"]:
            plan = (row["planner"], row["log_id"], row["frame_index"])
            plans_by_reason.setdefault(row["reason"], {})[plan] = None
    if not plans_by_reason:
        return []
    lines = [f"not scored: {sum(map(len, plans_by_reason.values()))} plans"]
    by_count = sorted(plans_by_reason.items(), key=lambda item: -len(item[1]))
    for reason, plans in by_count[:MAX_REASONS]:
        text = printable(f"{reason}: {_examples(list(plans))}", keep="")
        lines.append(f"  {len(plans):6d}  {text}")
    if len(by_count) > MAX_REASONS:
        lines.append(f"  and {len(by_count) - MAX_REASONS} more reasons, in the results")
    return [*lines, ""]


def difference_lines(results: "pa.Table", plans: Path, lake: Lake, devkit_cache: Path) -> list[str]:
    """The differences between our results and the devkit's, by column, and the plans that the
    devkit did not score.
    """
    from ops.devkit.compare import TOLERANCE, devkit_results, differences

    theirs = devkit_results(plans, lake, devkit_cache)
    ours = results.slice(0, len(theirs))  # rows of scenes without a plan come last
    rows = [
        {
            "value": item.column,
            "compared": item.compared,
            f"differ by > {TOLERANCE:g}": item.differing,
            "largest": f"{item.largest:.3g}",
            "at": item.where,
        }
        for item in differences(ours, theirs)
    ]
    unscored = unscored_lines(theirs)
    unscored[:1] = [f"the devkit: {line}" for line in unscored[:1]]
    return ["against the NAVSIM devkit", rows_text(rows), "", *unscored]


def _examples(plans: Sequence[tuple[str, str, int]], count: int = 3) -> str:
    words = [
        f"{_short(planner)} at log {_short(log_id)}, frame {frame}"
        for planner, log_id, frame in plans[:count]
    ]
    return "; ".join([*words, "..."] if len(plans) > count else words)


def _short(name: str, limit: int = 60) -> str:
    return name if len(name) <= limit else f"{name[: limit - 3]}..."
