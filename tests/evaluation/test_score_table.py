"""The score table: one mean per planner and measure, planners ranked by PDMS."""

from pathlib import Path

import pyarrow as pa
import pytest

from ops.evaluation.score_table import read_score_table, score_table
from storage.errors import ArtifactError
from storage.metrics_table import SUMMARY, write_metrics


def summary_row(planner: str, measure: str, mean: float, subset: str = "all", n: int = 3) -> dict:
    return {
        "planner": planner,
        "subset": subset,
        "measure": measure,
        "mean": mean,
        "low": mean,
        "high": mean,
        "n_scored": n,
        "n_expected": 4,
        "logs": 2,
    }


SUMMARY_ROWS = pa.Table.from_pylist(
    [
        summary_row("unscored", "ade_m", 0.125),
        summary_row("worse", "pdms", 0.25),
        summary_row("better", "pdms", 0.753),
        summary_row("better", "ade_m", 1.234, n=4),
        summary_row("equal", "pdms", 0.25),
        summary_row("worse", "pdms", 0.9, subset="rare"),
    ],
    SUMMARY,
)


def test_planners_are_ranked_by_pdms_and_those_without_one_come_last() -> None:
    assert score_table(SUMMARY_ROWS).planners == ("better", "worse", "equal", "unscored")
    rare = score_table(SUMMARY_ROWS, "rare")
    assert rare.planners == ("worse",) and rare.text("worse", "pdms") == "90.0"


def test_a_mean_keeps_its_counts_and_a_missing_one_is_none() -> None:
    table = score_table(SUMMARY_ROWS)
    ade = table.mean("better", "ade_m")
    assert ade is not None and (ade.mean, ade.n, ade.logs) == (1.234, 4, 2)
    assert table.n_expected == 4
    assert table.mean("unscored") is None and table.mean("nobody") is None


def test_scores_are_shown_in_percent_and_distances_in_metres() -> None:
    table = score_table(SUMMARY_ROWS)
    assert table.text("better", "pdms") == "75.3" and table.text("better", "ade_m") == "1.23"
    assert table.text("unscored", "pdms") == "-" and table.text("unscored", "nc", "–") == "–"


def test_an_empty_summary_gives_an_empty_table() -> None:
    table = score_table(SUMMARY.empty_table())
    assert table.planners == () and table.n_expected == 0


def test_the_table_is_read_from_the_folder_of_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no evaluation here"):
        read_score_table(tmp_path)
    write_metrics(tmp_path, "summary", SUMMARY_ROWS)
    assert read_score_table(tmp_path) == score_table(SUMMARY_ROWS)
