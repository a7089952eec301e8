"""The ablation: its statistics against numbers computed by hand, and which steps are made again."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from models.vlm import ActionVlm
from ops.ablation import ablate
from ops.ablation.ablate import (
    RUNS,
    TEACHERS,
    AblationConfig,
    AblationData,
    ablation_tables,
    choose_variants,
    make_steps,
    plan_steps,
    unfinished,
    varied_config,
)
from ops.ablation.table import (
    DIFFERENCES,
    PLANNERS,
    differences_table,
    planners_table,
    seed_cube,
    tables_of,
    write_tables,
)
from ops.ablation.vary_vla import vary_vla
from ops.drawing.page import Section
from ops.evaluation.config import EvaluationConfig, IntervalConfig
from ops.pdm.config import ScenesConfig
from ops.planners.checkpoint import load_planner
from ops.report.ablation import ablation_section
from ops.training.config import ComputeConfig
from ops.vla.finetune import finetune
from pipelines.cli import main
from storage.artifact import Lineage, planned_lineage, read_lineage, write_artifact
from storage.dataset import FrameSet, read_dataset
from storage.errors import ConfigError
from storage.lake import Lake
from storage.metrics_table import SCORES, read_metrics
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_vla import HEIGHT, STUDENT, VLA, WIDTH, score_by_displacement, tiny_frames

HERE = ComputeConfig(threads=1, at_once=1)
INTERVAL = IntervalConfig(resamples=400)
CODE = dict.fromkeys((*RUNS, "varied", "evaluation"), "c0de")
CONFIG = AblationConfig(
    choose_variants(()),
    (0,),
    16,
    VLA,
    replace(STUDENT, int8=False),
    EvaluationConfig(scenes=ScenesConfig(processes=1), interval=INTERVAL),
    HERE,
)
RUN = {"score_plans": score_by_displacement, "compute": HERE, "seed": 0}


def scores(planner: str, pdms: list, logs: str = "aabb", tags: tuple = (0, 1, 0, 0)) -> pa.Table:
    """A scores table of one planner on four scenes; its ADE is ten times the PDMS."""
    rows = [
        dict.fromkeys(SCORES.names)
        | {
            "log_id": logs[row],
            "frame_index": row,
            "split": "test",
            "planner": planner,
            "metric_version": "v1",
            "scored": value is not None,
            "reason": "",
            "pdms": value,
            "ade_m": None if value is None else 10 * value,
            "speed_mps": 1.0,
            "command": 1,
            "tags": ["cut_in"] if tags[row] else [],
        }
        for row, value in enumerate(pdms)
    ]
    return pa.Table.from_pylist(rows, SCORES)


def by_hand(control_of_seed_1: tuple = (0.1, 0.2, 0.3, 0.4)):
    return seed_cube(
        {
            0: [scores("vla", [0.5, 0.7, 0.9, 0.3]), scores("average_pool", [0.3, 0.3, 0.6, 0.0])],
            1: [
                scores("vla", [0.7, 0.5, 0.5, 0.7]),
                scores("average_pool", list(control_of_seed_1)),
            ],
        },
        ("vla", "average_pool"),
    )


def row_of(table: pa.Table, **where: str) -> dict:
    matches = [row for row in table.to_pylist() if where.items() <= row.items()]
    assert len(matches) == 1
    return matches[0]


def test_the_mean_is_over_scenes_and_seeds_and_the_std_over_seeds():
    table = planners_table(by_hand(), INTERVAL)
    row = row_of(table, planner="average_pool", subset="all", measure="pdms")
    assert table.schema.equals(PLANNERS) and (row["seeds"], row["n_scored"], row["logs"]) == (
        2,
        4,
        2,
    )
    assert np.isclose(row["mean"], (0.3 + 0.25) / 2) and np.isclose(row["std"], 0.05 / np.sqrt(2))
    rare = row_of(table, planner="vla", subset="rare", measure="ade_m")
    assert (
        np.isclose(rare["mean"], 6.0)
        and np.isclose(rare["std"], 2 / np.sqrt(2))
        and rare["n_scored"] == 1
    )


def test_a_difference_is_paired_by_scene_and_seed_and_bootstrapped_over_seeds_and_logs():
    row = row_of(
        differences_table(by_hand(), [("vla", "average_pool"), ("vla", "nobody")], INTERVAL),
        subset="all",
        measure="pdms",
    )
    # seed 0: .2 .4 .3 .3, seed 1: .6 .3 .2 .3; means of log a: .3, .45; of log b: .3, .25
    assert np.isclose(row["mean"], 0.325) and np.isclose(row["std"], 0.05 / np.sqrt(2))
    # seed 1 twice and the same log twice: one in 16 each
    assert np.isclose(row["low"], 0.25) and np.isclose(row["high"], 0.45)
    assert (row["n_scored"], row["logs"], row["seeds"]) == (4, 2, 2)


def test_only_scenes_with_a_score_of_both_planners_for_every_seed_count():
    cube = by_hand((None, 0.2, 0.3, 0.4))
    row = row_of(
        differences_table(cube, [("vla", "average_pool")], INTERVAL), subset="all", measure="pdms"
    )
    assert np.isclose(row["mean"], (0.35 + 0.25 + 0.3) / 3) and row["n_scored"] == 3
    assert (
        row_of(planners_table(cube, INTERVAL), planner="vla", subset="all", measure="pdms")[
            "n_scored"
        ]
        == 4
    )


def test_one_seed_has_no_std():
    cube = seed_cube({3: [scores("vla", [0.5, 0.7, 0.9, 0.3])]}, ("vla",))
    assert set(planners_table(cube, INTERVAL)["std"].to_pylist()) == {None}
    row = tables_of(cube, [], {"vla": "it"}, INTERVAL).markdown.splitlines()[-1]
    assert "| 60.0 " in row and "±" not in row


def test_without_an_event_the_table_of_events_is_empty_and_not_zero():
    cube = seed_cube({0: [scores("vla", [0.5] * 4, tags=(0,) * 4)]}, ("vla",))
    assert planners_table(cube, INTERVAL)["subset"].to_pylist() == ["all"] * 2
    assert "| -  " in tables_of(cube, [], {"vla": "it"}, INTERVAL).markdown


def test_tables_are_written_as_parquet_csv_and_text(tmp_path):
    tables = tables_of(
        by_hand(), [("vla", "average_pool")], {"vla": "it", "average_pool": "not it"}, INTERVAL
    )
    write_tables(tmp_path, tables)
    assert pq.read_table(tmp_path / "differences.parquet").schema.equals(DIFFERENCES)
    assert len(pcsv.read_csv(tmp_path / "planners.csv")) == 8
    text = (tmp_path / "ablation.md").read_text()
    assert (
        "27.5 [15.0, 35.0] ± 3.5" in text
        and "+32.5 [+25.0, +45.0] ± 3.5" in text
        and "4 scenes of 2 test logs, 1 of them" in text
    )


def test_a_variant_adds_the_planner_it_is_compared_with_and_the_runs_it_needs():
    assert choose_variants(["average_pool"]) == ("vla", "average_pool")
    assert choose_variants(["oracle"]) == ("planner_alone", "oracle")
    assert choose_variants(["student_no_teacher"]) == ("student", "student_no_teacher")
    assert choose_variants(["ensemble"]) == ("student_no_teacher", "ensemble")
    assert replace(CONFIG, variants=choose_variants(["student_no_teacher"])).runs == (
        "vla",
        "student",
    )
    assert replace(CONFIG, variants=("planner_alone",)).runs == ("vla",)


def test_an_unknown_variant_raises_an_error_with_the_closest_name(capsys, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'average_pool'"):
        choose_variants(["vla", "averge_pol"])
    words = ["--scale", "smoke", "--lake", str(tmp_path / "lake")]
    assert main(["ablate", "--variants", "no_latent_trainin", *words]) == 2
    assert "did you mean 'no_latent_training'" in capsys.readouterr().err
    assert main(["ablate", "--seeds", "0", *words]) == 2 and "--seeds 5" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()


def test_the_error_for_an_empty_lake_names_the_command_to_run(capsys, tmp_path):
    assert main(["ablate", "--scale", "smoke", "--lake", str(tmp_path / "lake")]) == 2
    assert "latentvla run" in capsys.readouterr().err


@pytest.fixture(scope="module")
def vla(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unchanged VLA of seed 0."""
    folder = tmp_path_factory.mktemp("vla")
    finetune(
        *training(),
        folder,
        VLA,
        num_codes=16,
        runs=tmp_path_factory.mktemp("runs"),
        name="whole",
        **RUN,
    )
    return folder


@cache
def training():
    return tiny_frames(), tiny_frames(1, seed=1, prefix="val")


def test_no_change_gives_the_planner_of_the_vla_bit_for_bit(vla, tmp_path):
    vary_vla(training()[0], vla, tmp_path / "out", VLA, runs=tmp_path / "runs", name="same", **RUN)
    varied_one, whole = (
        load_planner(folder / "planner", "fused_planner") for folder in (tmp_path / "out", vla)
    )
    assert (
        varied_one.planner.config == whole.planner.config
        and varied_one.fusion_config == whole.fusion_config
    )
    assert all(
        np.array_equal(value, varied_one.state_dict()[name])
        for name, value in whole.state_dict().items()
    )
    assert not (tmp_path / "out" / "vlm").exists() and not [*(tmp_path / "runs").iterdir()]


def test_without_latent_training_the_vlm_has_its_initial_weights(vla, tmp_path):
    import torch

    (tmp_path / "out").mkdir()
    vary_vla(
        training()[0],
        vla,
        tmp_path / "out",
        varied_config("no_latent_training", VLA),
        runs=tmp_path / "runs",
        name="untrained",
        **RUN,
    )
    torch.manual_seed(0)
    ActionVlm.build(VLA.vlm).save(tmp_path / "fresh")
    weights = [
        (folder / "model.safetensors").read_bytes()
        for folder in (tmp_path / "fresh", tmp_path / "out" / "vlm", vla / "vlm")
    ]
    assert weights[0] == weights[1] != weights[2]


@pytest.fixture
def data(vla: Path, tmp_path: Path) -> AblationData:
    """A lake with scenes to score, tiny training rows, and a pipeline with a finished vla."""
    lake = write_tiny_lake(tmp_path / "lake")

    def test_rows() -> FrameSet:
        rows = read_dataset(lake, "test", size_hw=(HEIGHT, WIDTH))
        codes = np.arange(12 * len(rows)).reshape(-1, 12) % 16
        return replace(rows, codes=codes, codes_valid=np.ones(codes.shape, bool))

    return AblationData(
        lake,
        training,
        cache(test_rows),
        score_by_displacement,
        {("vla", 0): vla},
    )


def todo_of(data: AblationData, config: AblationConfig, **parents: str) -> list:
    return unfinished(plan_steps(data.lake, config, parents or {"relabeled": "1"}, CODE))


def test_an_interrupted_ablation_resumes_and_makes_nothing_twice(data, monkeypatch):
    calls: list[str] = []

    def counted(name, killed=False):
        real = getattr(ablate, name)

        def call(*args, **kwargs):
            calls.append(name)
            if killed:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(ablate, name, call)
        return real

    for name in ("finetune", "distill", "train_oracle", "train_student", "evaluate"):
        counted(name)
    real = counted("vary_vla", killed=True)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        make_steps(todo_of(data, CONFIG), CONFIG, data, lines.append)
    assert (
        calls == ["evaluate", "distill", "evaluate", "vary_vla"] and len(lines) == 4
    )  # the vla is that of the pipeline
    assert [(step.run, step.scores) for step in todo_of(data, CONFIG)] == [
        (run, scores) for run in RUNS[2:] for scores in (False, True)
    ]

    monkeypatch.setattr(ablate, "vary_vla", real)
    counted("vary_vla")
    calls.clear()
    make_steps(todo_of(data, CONFIG), CONFIG, data, lines.append)
    assert calls == ["vary_vla", "evaluate"] * 2 + ["train_oracle", "evaluate"] + [
        "train_student",
        "evaluate",
    ] * len(TEACHERS)
    assert not todo_of(data, CONFIG)
    assert not list(data.lake.runs.iterdir())
    assert len(todo_of(data, CONFIG, relabeled="2")) == 2 * len(RUNS)  # other rows: all of it anew
    later = unfinished(plan_steps(data.lake, CONFIG, {"relabeled": "1"}, CODE, {"late test": "1"}))
    assert all(step.scores for step in later) and len(later) == len(RUNS)  # a new test log neither
    other = replace(CONFIG, evaluation=replace(CONFIG.evaluation, stride=2))
    assert all(step.scores for step in todo_of(data, other))  # another stride trains nothing
    assert len(todo_of(data, other)) == len(RUNS)

    lineage = read_lineage(data.lake.root / "ablation" / "average_pool" / "0")
    assert lineage.seed == 0 and lineage.config["fusion"]["pool"] == "average"
    for run in ("average_pool", *TEACHERS):
        parents = read_lineage(data.lake.root / "ablation" / run / "0").parents
        assert set(parents) == {"relabeled", "ablation/vla/0"}
    tables = ablation_tables(data.lake, CONFIG)
    assert (
        tables.planners.filter(pc.field("subset") == "all")["planner"].to_pylist()
        == [*CONFIG.variants] * 2
    )
    assert len(
        {
            row["mean"]
            for row in tables.planners.to_pylist()
            if (row["subset"], row["measure"]) == ("all", "ade_m")
        }
    ) == len(CONFIG.variants)


def test_a_seed_that_the_pipeline_has_not_trained_is_trained_and_scored(vla, data):
    config = replace(CONFIG, variants=("vla", "planner_alone"), seeds=(0, 7))
    make_steps(todo_of(data, config), config, data, lambda _: None)
    root = data.lake.root / "ablation"
    weights = [
        (root / "vla" / seed / "planner" / "model.safetensors").read_bytes() for seed in "07"
    ]
    assert (
        weights[0] != weights[1]
        and weights[0] == (vla / "planner" / "model.safetensors").read_bytes()
    )
    table = read_metrics(root / "scores" / "vla" / "7", "scores")
    assert set(zip(table["planner"].to_pylist(), table["seed"].to_pylist(), strict=True)) == {
        ("human", None),
        ("pdm_closed", None),
        ("vla", 7),
        ("planner_alone", 7),
        ("ego_status_mlp", 7),
    }
    assert json.loads((root / "vla" / "7" / "lineage.json").read_text())["seed"] == 7
    assert not list((data.lake.runs).iterdir())
    tables = ablation_tables(data.lake, config)
    assert (
        tables.differences["control"].to_pylist() == ["planner_alone"] * 4
        and tables.differences["seeds"][0].as_py() == 2
    )


def test_each_variant_differs_from_the_recipe_in_one_part():
    assert varied_config("average_pool", VLA) == replace(
        VLA, fusion=replace(VLA.fusion, pool="average")
    )
    assert varied_config("no_latent_training", VLA).vlm_fit.steps == 0
    assert varied_config("oracle", VLA) == replace(VLA, fusion=replace(VLA.fusion, tokens=4))


def _made(lake: Lake, name: str, lineage: Lineage) -> None:
    with write_artifact(lake.root / name, lineage):
        pass


def test_the_report_shows_the_ablation_or_why_it_is_missing(tmp_path):
    lake = Lake(tmp_path)
    assert "not measured yet" in ablation_section(lake)
    rows = {"relabeled/log": "1"}
    _made(lake, "vla", planned_lineage("vla", rows, None, "c0de"))
    for seed in (0, 1):
        _made(
            lake,
            f"ablation/vla/{seed}",
            planned_lineage(f"ablation/vla/{seed}", rows, None, "c0de", seed),
        )
    tables = tables_of(
        by_hand(), [("vla", "average_pool")], {"vla": "", "average_pool": ""}, INTERVAL
    )
    write_tables(lake.root / "ablation", tables)
    section = ablation_section(lake)
    assert isinstance(section, Section) and "trained 2 times" in section.lead
    worth, means = section.blocks
    assert [cell.text for cell in worth.rows[0].cells][:3] == [
        "VLA − average pool",
        "better",
        "+32.5",
    ]
    assert (
        worth.rows[0].cells[2].detail == "[+25.0, +45.0] ± 3.5"
        and means.rows[0].cells[1].text == "60.0"
    )
    assert "covers seed variance" in worth.key and "covers seed variance" in means.key
    pq.write_table(
        tables.planners.drop_columns(["low"]), lake.root / "ablation" / "planners.parquet"
    )
    assert "tables of another version" in ablation_section(lake)
    _made(lake, "vla", planned_lineage("vla", {"relabeled/log": "2"}, None, "c0de"))
    assert "other rows" in ablation_section(lake)
