"""The score table: one mean per planner and measure, planners ranked by PDMS."""

import math
from pathlib import Path

import pyarrow as pa
import pytest

from ops.evaluation.score_table import epdms_title, read_score_table, score_table
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


def test_the_epdms_is_titled_without_ec_where_no_scene_has_a_two_frame_comfort() -> None:
    rows = [summary_row(planner, "epdms", 0.5) for planner in ("a", "b")]
    # a summary has a row without a mean for a measure that no scene has
    missing = [summary_row(planner, "ec_v2", math.nan, n=0) for planner in ("a", "b")]
    without = score_table(pa.Table.from_pylist([*rows, *missing], SUMMARY))
    assert without.title("epdms") == "epdms without EC" and without.title("pdms") == "pdms"
    assert epdms_title(without.means) == "EPDMS without EC"
    one = [summary_row("a", "ec_v2", 0.9, n=1), missing[1]]
    some = score_table(pa.Table.from_pylist([*rows, *one], SUMMARY))
    assert epdms_title(some.means) == "EPDMS (b: without EC)"
    both = [summary_row(planner, "ec_v2", 0.0, n=1) for planner in ("a", "b")]
    complete = score_table(pa.Table.from_pylist([*rows, *both], SUMMARY))
    assert epdms_title(complete.means) == "EPDMS" and complete.title("epdms") == "epdms"


def test_without_an_epdms_its_title_claims_nothing() -> None:
    assert score_table(SUMMARY_ROWS).title("epdms") == "epdms"


def test_an_empty_summary_gives_an_empty_table() -> None:
    table = score_table(SUMMARY.empty_table())
    assert table.planners == () and table.n_expected == 0


def test_the_table_is_read_from_the_folder_of_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no evaluation here"):
        read_score_table(tmp_path)
    write_metrics(tmp_path, "summary", SUMMARY_ROWS)
    assert read_score_table(tmp_path) == score_table(SUMMARY_ROWS)
