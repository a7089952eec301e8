"""Zero-shot evaluation: how the logs are made, which rows are evaluated, and what is printed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.code_version import modules_of
from ops.evaluation.config import EvaluationConfig, OpenLoopConfig, ZeroShotConfig
from ops.evaluation.open_loop import OPEN_LOOP, open_loop_rows, read_open_loop
from ops.evaluation.zero_shot import zero_shot, zero_shot_of_artifact
from ops.ingest.config import ZeroShotLogsConfig
from ops.ingest.inventory import read_inventory
from ops.ingest.zero_shot_logs import (
    QUARANTINED_FILE,
    make_zero_shot_logs,
    zero_shot_log_ids,
    zero_shot_logs_lineage,
)
from ops.synthesize.config import TownBConfig
from pipelines.commands.score import zero_shot_lines
from pipelines.presets import navsim, smoke, synthetic
from storage.artifact import read_lineage
from storage.dataset import FrameSet, read_dataset
from storage.errors import ArtifactError, ConfigError, SourceError
from storage.frame_store import frame_info
from storage.lake import Lake
from storage.trajectory_table import Command
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_nuscenes import SCENE, VERSION, write_scene

LOGS = ZeroShotLogsConfig(
    TownBConfig(blocks=2, scenes=2, seconds=7.0, image_width=64, image_height=36, event_rate=0.0)
)
CONFIG = EvaluationConfig(zero_shot=ZeroShotConfig(LOGS), sight_ablations=("student",))


class Bright:
    """Plans the human's path if the image is not black, else stops."""

    parameters = 0

    def plan(self, rows: FrameSet) -> np.ndarray:
        seen = (rows.images.mean(axis=(1, 2, 3)) > 0)[:, None, None]
        return np.where(seen, rows.future, 0.0)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lake") / "zero_shot"
    make_zero_shot_logs(path, zero_shot_logs_lineage(LOGS, "code"), LOGS)
    return path


def test_town_b_becomes_a_lake_of_its_own_with_lineage(artifact):
    logs, failed = zero_shot_log_ids(artifact)
    assert logs == ["scene-9001", "scene-9002"] and failed == {}
    assert read_lineage(artifact).version == zero_shot_logs_lineage(LOGS, "code").version
    inner = read_lineage(Lake(artifact).log("trajectories", logs[0]))
    assert inner.parents == {"zero_shot": read_lineage(artifact).version}
    rows = read_dataset(Lake(artifact), "test", size_hw=(18, 32), log_ids=logs)
    assert len(rows) == 28 and rows.has_image.all() and rows.images.std() > 10
    assert set(rows.command.tolist()) <= {Command.LEFT, Command.STRAIGHT, Command.RIGHT}
    assert frame_info(Lake(artifact).log("frames", logs[0])).cameras[0].camera.name == "CAM_FRONT"
    with pytest.raises(ArtifactError):
        # it is no part of the pipeline that training reads
        read_inventory(Lake(artifact).log("raw_logs", logs[0]))


def test_the_version_of_the_logs_follows_from_their_configuration_and_from_the_code():
    version = zero_shot_logs_lineage(LOGS, "code").version
    assert (
        zero_shot_logs_lineage(replace(LOGS, town=replace(LOGS.town, seed=5)), "code").version
        != version
    )
    assert zero_shot_logs_lineage(LOGS, "other code").version != version
    assert zero_shot_logs_lineage(LOGS, "code").version == version


def test_planners_are_evaluated_with_real_black_and_shuffled_images(artifact, tmp_path):
    planners = {"stopped": Stopped(), "student": Bright()}
    table = zero_shot_of_artifact(artifact, planners, tmp_path, CONFIG, (18, 32))
    assert table.schema.equals(OPEN_LOOP) and read_open_loop(tmp_path).equals(table)
    rows = {row["planner"]: row for row in open_loop_rows(table)}
    assert list(rows) == ["stopped", "student", "student_blank", "student_shuffled"]
    assert rows["student"]["L2@3"] == 0.0 == rows["student_shuffled"]["L2<=3"]
    assert rows["stopped"]["L2@3"] == rows["student_blank"]["L2@3"] > rows["stopped"]["L2<=3"] > 0.5
    assert rows["stopped"]["n@3"] == 2 * (14 - 6) == rows["stopped"]["n<=3"]
    assert rows["student"]["col@3"] == 0.0


class Stopped:
    """Stops."""

    parameters = 0

    def plan(self, rows: FrameSet) -> np.ndarray:
        return np.zeros((len(rows), 8, 3))


def test_each_convention_is_printed_as_one_table_with_the_number_of_rows(artifact, tmp_path):
    assert zero_shot_lines(Lake(tmp_path)) == []
    (tmp_path / "evaluation").mkdir()
    zero_shot_of_artifact(
        artifact, {"stopped": Stopped()}, tmp_path / "evaluation", CONFIG, (18, 32)
    )
    text = "\n".join(zero_shot_lines(Lake(tmp_path)))
    assert "UniAD" in text and "VAD" in text and "L2<=2" in text and "col@1" in text
    assert text.splitlines()[-1].startswith("stopped") and " 16" in text.splitlines()[-1]


def test_any_lake_can_be_evaluated_and_rows_without_a_future_are_refused(tmp_path):
    lake = write_tiny_lake(tmp_path / "lake")
    everything = read_dataset(lake, size_hw=(18, 32))
    table = zero_shot(everything, {"student": Bright()}, lake, tmp_path / "out", EvaluationConfig())
    assert table.equals(pq.read_table(tmp_path / "out/zero_shot.parquet"))
    assert (tmp_path / "out/zero_shot.csv").read_text().count("\n") == len(table) + 1
    l2 = {
        row["planner"]: row["l2_m"]
        for row in table.to_pylist()
        if (row["convention"], row["subset"], row["horizon_s"]) == ("at", "all", 3)
    }
    assert set(l2) == {"student", "student_blank", "student_shuffled"}
    assert l2["student"] == l2["student_shuffled"] == 0.0 and l2["student_blank"] > 15.0
    with pytest.raises(ConfigError, match="no frame to plan for"):
        zero_shot(
            everything.take(everything.frame_index == 23),
            {},
            lake,
            tmp_path / "out",
            EvaluationConfig(),
        )


def test_real_nuscenes_data_replaces_town_b_and_an_unreadable_scene_is_named(
    tmp_path,
):
    raw = tmp_path / "nuscenes"
    write_scene(raw)
    (raw / VERSION / "splits.json").write_text(f'{{"test": ["{SCENE}"]}}')
    config = ZeroShotLogsConfig(nuscenes=str(raw))
    lineage = zero_shot_logs_lineage(config, "code")
    make_zero_shot_logs(tmp_path / "zero_shot", lineage, config)
    assert (
        zero_shot_log_ids(tmp_path / "zero_shot") == ([SCENE], {})
        and not (tmp_path / "zero_shot" / "raw").exists()
    )
    (raw / "can_bus" / f"{SCENE}_route.json").write_text("[[0,")
    broken = zero_shot_logs_lineage(config, "code")
    assert broken.version != lineage.version  # other bytes, other logs
    with pytest.raises(
        SourceError, match=r"no log of the test split can be read[\s\S]*CAN bus file"
    ):
        make_zero_shot_logs(tmp_path / "zero_shot", broken, config)
    assert (
        read_lineage(tmp_path / "zero_shot").version == lineage.version
        and (tmp_path / "zero_shot" / QUARANTINED_FILE).exists()
    )
    with pytest.raises(SourceError, match="no nuScenes tables"):
        zero_shot_logs_lineage(ZeroShotLogsConfig(nuscenes=str(tmp_path / "nowhere")), "code")


def test_smoke_and_synthetic_use_town_b_and_navsim_uses_nuscenes_if_its_folder_is_given(
    monkeypatch,
):
    for preset in (smoke(), synthetic()):
        assert (
            preset.evaluation.zero_shot is not None
            and preset.evaluation.zero_shot.logs.nuscenes == ""
        )
    monkeypatch.delenv("LATENTVLA_NUSCENES", raising=False)
    assert navsim().evaluation.zero_shot is None
    monkeypatch.setenv("LATENTVLA_NUSCENES", "/data/nuscenes")
    real = navsim().evaluation.zero_shot
    assert real is not None and real.logs.nuscenes == "/data/nuscenes"


def test_the_code_of_town_b_is_in_the_version_of_the_evaluation_and_of_no_training_asset():
    town_b = "ops/synthesize/town_b.py"
    assert {town_b, "ops/evaluation/zero_shot.py", "ops/evaluation/open_loop.py"} <= set(
        modules_of(ASSET_SPECS["evaluation"].code)
    )
    for asset in ("raw_logs", "frames", "trajectories", "codebook", "relabeled", "vla", "student"):
        assert town_b not in modules_of(ASSET_SPECS[asset].code), asset


def test_the_ego_box_is_that_of_the_public_planning_code():
    config = OpenLoopConfig()
    assert (config.length_m, config.width_m, config.center_ahead_m) == (4.084, 1.85, 1.44)
