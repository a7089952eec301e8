"""`latentvla score PLANS`: what it prints and writes, and its error messages."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from ops.evaluation.config import SCORE_TABLE_MEASURES, EvaluationConfig
from ops.evaluation.evaluate import BLANK, HUMAN, PDM_CLOSED, SHUFFLED
from ops.evaluation.open_loop import CONVENTIONS, HORIZONS_S, OPEN_LOOP
from ops.evaluation.planners import PLANNERS
from ops.pdm.score_file import RESULTS
from pipelines.cli import main
from pipelines.commands.score import zero_shot_lines
from pipelines.commands.text import COLUMNS
from storage.lake import Lake
from storage.metrics_table import SUMMARY, ZERO_SHOT_FILE, write_metrics
from tests.worlds.tiny_lake import FRAMES, write_tiny_lake
from tests.worlds.tiny_pdm import straight

SCENES = range(3, FRAMES - 10)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("lake"))


def write_plans(file: Path, *rows: dict) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file


def row(frame: int, planner: str = "steady", *, speed: float = 8.0, log_id: str = "log-a") -> dict:
    return {
        "log_id": log_id,
        "frame_index": frame,
        "planner": planner,
        "poses": straight(speed)[0].ravel().tolist(),
    }


def call(capsys: pytest.CaptureFixture, lake: Lake, *words: object) -> tuple[int, str, str]:
    """Exit code, output and errors of `latentvla score`."""
    code = main(["score", *map(str, words), "--lake", str(lake.root)])
    out, err = capsys.readouterr()
    return code, out, err


def test_means_are_printed_by_planner_and_version_with_the_number_of_plans(lake, capsys, tmp_path):
    plans = write_plans(
        tmp_path / "plans.parquet", *(row(frame) for frame in SCENES), row(5, "still", speed=0.0)
    )
    code, out, _ = call(capsys, lake, plans)
    assert code == 0
    first, second = out.split("EPDMS (NAVSIM v2.2)")
    assert "PDMS (NAVSIM v1.1)" in first
    for part in (first, second):
        lines = [
            line.split()[:3] for line in part.splitlines() if line.startswith(("steady", "still"))
        ]
        assert lines == [
            ["steady", "test", f"{len(SCENES)}/{len(SCENES)}"],
            ["still", "test", "1/1"],
        ]
    assert "lk" not in first and "lk" in second
    results = pq.read_table(tmp_path / "plans.scores.parquet")
    assert results.schema == RESULTS and len(results) == 2 * (len(SCENES) + 1)
    assert set(results["n_expected"].to_pylist()) == {len(SCENES), 1}


def test_a_plan_without_a_score_is_named_with_its_reason_and_still_counts(lake, capsys, tmp_path):
    broken = row(6) | {"poses": [float("nan")] * 24}
    plans = write_plans(tmp_path / "plans.parquet", row(5), broken, row(1), row(5, log_id="log-z"))
    code, out, _ = call(capsys, lake, plans, "--versions", "v1")
    assert code == 0 and "EPDMS" not in out
    assert ["steady", "test", "1/3"] in [line.split()[:3] for line in out.splitlines()]
    assert ["steady", "?", "0/1"] in [line.split()[:3] for line in out.splitlines()]
    assert "not scored: 3 plans" in out
    assert "the plan holds NaN or infinity: steady at log log-a, frame 6" in out
    assert "no log 'log-z'" in out and "no scene at this frame" in out


def test_the_epdms_of_plans_without_an_earlier_one_is_titled_without_ec(lake, capsys, tmp_path):
    alone = [row(5), row(7)]  # 1 s apart
    code, out, _ = call(capsys, lake, write_plans(tmp_path / "alone.parquet", *alone))
    assert code == 0 and "EPDMS (NAVSIM v2.2) without EC, in %" in out
    pair = [row(5), row(6)]  # 0.5 s apart
    code, out, _ = call(capsys, lake, write_plans(tmp_path / "pair.parquet", *pair))
    assert code == 0 and "EPDMS (NAVSIM v2.2), in %" in out and "without EC" not in out
    both = [*pair, row(5, "still", speed=0.0)]
    code, out, _ = call(capsys, lake, write_plans(tmp_path / "both.parquet", *both))
    assert code == 0 and "EPDMS (NAVSIM v2.2) (still in test: without EC), in %" in out


def test_the_score_table_titles_the_epdms_without_ec_as_the_evaluation_has_none(capsys, tmp_path):
    scores = {"pdms": 0.5, "epdms": 0.75, "ec_v2": 0.25}
    for measures, title in ((("pdms", "epdms"), "epdms*"), (tuple(scores), "epdms")):
        summary = [
            {"planner": "p", "subset": "all", "measure": name, "n_scored": 3, "n_expected": 3}
            | {"logs": 1}
            | dict.fromkeys(("mean", "low", "high"), scores[name])
            for name in measures
        ]
        folder = tmp_path / str(len(measures)) / "evaluation"
        folder.mkdir(parents=True)
        write_metrics(folder, "summary", pa.Table.from_pylist(summary, SUMMARY))
        code, out, _ = call(capsys, Lake(folder.parent))
        assert code == 0 and f"  {title}  ade_m" in out and "75.0" in out
        assert ("*: epdms without EC; EC is the two-frame comfort" in out) == (title == "epdms*")
        assert "without a score" not in out


def test_score_and_zero_shot_tables_fit_a_terminal_with_the_names_of_all_planners(capsys, tmp_path):
    settings = EvaluationConfig()
    names = [HUMAN, PDM_CLOSED, *PLANNERS]
    names += [name + images for name in settings.sight_ablations for images in (BLANK, SHUFFLED)]
    assert {"student_no_teacher_shuffled", "constant_turn_rate"} <= {*names}
    folder = tmp_path / "evaluation"
    folder.mkdir()
    summary = [
        {"planner": name, "subset": "all", "measure": measure, "n_scored": 3, "n_expected": 4}
        | {"logs": 1}
        | dict.fromkeys(("mean", "low", "high"), 123.45 if measure == "fde_m" else 1.0)
        for name in names
        for measure in SCORE_TABLE_MEASURES
    ]
    write_metrics(folder, "summary", pa.Table.from_pylist(summary, SUMMARY))
    zero_shot = [
        {"planner": name, "convention": convention, "subset": "all", "horizon_s": horizon}
        | dict.fromkeys(("l2_m", "l2_low_m", "l2_high_m"), 123.45)
        | dict.fromkeys(("collision", "collision_low", "collision_high"), 1.0)
        | dict.fromkeys(("n_rows", "n_collision", "n_expected"), 100_000)
        for name in names
        for convention in CONVENTIONS
        for horizon in HORIZONS_S
    ]
    pq.write_table(pa.Table.from_pylist(zero_shot, OPEN_LOOP), folder / ZERO_SHOT_FILE)
    code, out, _ = call(capsys, Lake(tmp_path))
    lines = [*out.splitlines(), *zero_shot_lines(Lake(tmp_path))]
    lines = [line for text in lines for line in text.splitlines()]
    assert code == 0 and len(lines) > 3 * len(names)
    assert max(map(len, lines)) <= COLUMNS == 100, max(lines, key=len)
    heads = [line.split() for line in lines if line.startswith("planner ")]
    assert heads[0] == [
        *("planner", "pdms", "nc", "dac", "ddc", "ttc", "ep", "comf"),
        *("epdms*", "ade_m", "fde_m"),
    ]
    assert heads[1] == ["planner", "L2@1", "L2@2", "L2@3", "col@1", "col@2", "col@3", "n@3"]
    assert heads[2] == ["planner", "L2<=1", "L2<=2", "L2<=3", "col<=1", "col<=2", "col<=3", "n<=3"]


def test_the_score_table_names_planners_with_unscored_scenes(capsys, tmp_path):
    summary = [
        {"planner": name, "subset": "all", "measure": "pdms", "n_scored": n, "n_expected": 3}
        | {"logs": 1}
        | dict.fromkeys(("mean", "low", "high"), 0.5)
        for name, n in (("whole", 3), ("broken", 1))
    ]
    (tmp_path / "evaluation").mkdir()
    write_metrics(tmp_path / "evaluation", "summary", pa.Table.from_pylist(summary, SUMMARY))
    code, out, _ = call(capsys, Lake(tmp_path))
    assert code == 0 and "scenes without a score: broken 2; why: " in out


def test_scenes_without_a_plan_are_counted_when_a_split_is_named(lake, capsys, tmp_path):
    plans = write_plans(tmp_path / "plans.parquet", *(row(frame) for frame in SCENES))
    _, out, _ = call(capsys, lake, plans, "--versions", "v1", "--expect-split", "test")
    assert f"{len(SCENES)}/{2 * len(SCENES)}" in out
    assert (
        f"{len(SCENES)}  the file has no plan for this scene: steady at log log-b, frame 3;" in out
    )


def test_results_are_written_as_csv_if_the_name_says_so(lake, capsys, tmp_path):
    plans, file = write_plans(tmp_path / "plans.parquet", row(5)), tmp_path / "new" / "scores.csv"
    code, out, _ = call(capsys, lake, plans, "--out", file)
    assert code == 0 and f"results: {file}" in out
    table = pyarrow.csv.read_csv(file)
    assert table.column_names == RESULTS.names
    assert np.isfinite(table["score"].to_numpy()).all()


def test_two_processes_give_what_one_gives(lake, capsys, tmp_path):
    plans = write_plans(tmp_path / "plans.parquet", row(5), row(7, log_id="log-b"))
    results = []
    for processes in (1, 2):
        call(capsys, lake, plans, "--processes", processes, "--versions", "v1")
        results.append(pq.read_table(tmp_path / "plans.scores.parquet"))
    assert results[0].equals(results[1])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("missing.parquet",), "there is no such file of plans"),
        (("text.parquet",), "no Parquet"),
        (("other.parquet",), "log_id, frame_index, planner, poses, dt_s"),
        (("words.parquet",), "have other types"),
        (("nameless.parquet",), "no planner"),
        (("good.parquet", "--versions", "v3"), "v1 or v2"),
        (("good.parquet", "--versions", ","), "v1 or v2"),
        (("good.parquet", "--expect-split", "tets"), "did you mean 'test'"),
        (("good.parquet", "--out", "scores.txt"), ".parquet or .csv"),
        (("good.parquet", "--out", "good.parquet"), "would overwrite"),
        (("good.parquet", "--against-devkit", "cache"), "pip install"),
    ],
)
def test_a_mistake_is_answered_with_what_is_wanted(
    lake, capsys, tmp_path, monkeypatch, words, hint
):
    monkeypatch.chdir(tmp_path)
    write_plans(Path("good.parquet"), row(5))
    Path("text.parquet").write_text("log_id,frame_index")
    write_plans(Path("other.parquet"), {"a": 1})
    write_plans(Path("words.parquet"), row(5) | {"poses": "0 0 0"})
    write_plans(Path("nameless.parquet"), row(5) | {"planner": None}, row(6))
    code, _, err = call(capsys, lake, *words)
    assert code == 2 and hint in err and "Traceback" not in err
