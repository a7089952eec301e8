"""Uses of an installed devkit: detecting it, the agent, the submission, the comparison.

The tests do not use the NAVSIM devkit itself. `interface` writes a package tree with the names,
signatures and fields of the devkit's branches v1.1 and main, and without their computations. So
these tests show that we call the devkit correctly, and not that any score agrees: that is tested in
test_reference.py against outputs of the devkit.
"""

import importlib
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.devkit.find import devkit_version, require_devkit
from ops.devkit.submission import Team, write_submission
from ops.pdm.scene.cache import cached_scenes
from ops.pdm.score_file import RESULTS, score_plans
from ops.student.predict import Student
from pipelines.cli import main
from storage.errors import ConfigError
from storage.lake import Lake
from storage.trajectory_table import Command
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_pdm import straight

TEAM = Team("name", "authors", "mail", "institution", "country")
PDM = "navsim/planning/simulation/planner/pdm_planner"
SAMPLING = """
from dataclasses import dataclass
@dataclass(frozen=True)
class TrajectorySampling:
    num_poses: int = None
    time_horizon: float = None
    interval_length: float = None
    def __post_init__(self):
        if self.num_poses is None:
            object.__setattr__(self, "num_poses", round(self.time_horizon / self.interval_length))
"""
DATACLASSES = """
from dataclasses import dataclass, fields
from typing import Any
from nuplan.planning.simulation.trajectory.trajectory_sampling import TrajectorySampling
@dataclass
class Trajectory:
    poses: Any
    trajectory_sampling: TrajectorySampling = TrajectorySampling(None, 4, 0.5)
    def __post_init__(self):
        assert self.poses.shape == (self.trajectory_sampling.num_poses, 3)
@dataclass
class SensorConfig:
    cam_f0: Any; cam_l0: Any; cam_l1: Any; cam_l2: Any
    cam_r0: Any; cam_r1: Any; cam_r2: Any; cam_b0: Any; lidar_pc: Any
    @classmethod
    def build_no_sensors(cls):
        return cls(*[False] * 9)
class AgentInput: ...
@dataclass
class PDMResults:
    no_at_fault_collisions: float
    drivable_area_compliance: float
    ego_progress: float
    time_to_collision_within_bound: float
    comfort: float
    driving_direction_compliance: float
    score: float
"""
AGENT = """
import torch
from abc import ABC, abstractmethod
class AbstractAgent(torch.nn.Module, ABC):
    def __init__(self, {sampling}requires_scene=False):
        super().__init__()
        self.requires_scene = requires_scene
    @abstractmethod
    def name(self): ...
    @abstractmethod
    def get_sensor_config(self): ...
    @abstractmethod
    def initialize(self): ...
"""
LOADER = """
from pathlib import Path
from types import SimpleNamespace
class MetricCacheLoader:
    def __init__(self, cache_path, file_name="metric_cache.pkl"):
        lines = next((cache_path / "metadata").glob("*.csv")).read_text().splitlines()[1:]
        self.metric_cache_paths = {line.split("/")[-2]: line for line in lines}
    def get_from_token(self, token):
        time_us = int(Path(self.metric_cache_paths[token]).read_text())
        point = SimpleNamespace(time_us=time_us, time_s=time_us * 1e-6)
        return SimpleNamespace(
            ego_state=SimpleNamespace(time_point=point), timepoint=point, token=token,
            log_name=self.metric_cache_paths[token].split("/")[-4], scene_type="original",
        )
"""
SCORER = """
from dataclasses import dataclass
@dataclass
class PDMScorerConfig:
    human_penalty_filter: bool = None
class PDMScorer:
    def __init__(self, proposal_sampling, config=PDMScorerConfig()):
        self.proposal_sampling, self._config = proposal_sampling, config
"""
SCORE_V1 = """
from navsim.common.dataclasses import PDMResults
CALLS, ANSWERS = [], {}
def pdm_score(metric_cache, model_trajectory, future_sampling, simulator, scorer):
    CALLS.append((metric_cache.token, model_trajectory, future_sampling))
    return PDMResults(**ANSWERS[metric_cache.token])
"""
SCORE_V2 = """
import pandas as pd
CALLS, ANSWERS = [], {}
def pdm_score(
    metric_cache, model_trajectory, future_sampling, simulator, scorer, traffic_agents_policy
):
    assert scorer._config.human_penalty_filter
    assert traffic_agents_policy.future_trajectory_sampling == future_sampling
    CALLS.append((metric_cache.token, model_trajectory, future_sampling))
    return pd.DataFrame([ANSWERS[metric_cache.token]]), metric_cache.token
"""
SCRIPT_V2 = """
def infer_start_adjacent_mapping(score_df, time_gap_threshold=0.55):
    rows = score_df[score_df["frame_type"] == "original"].sort_values("start_time")
    pairs = zip(rows.itertuples(), rows.iloc[1:].itertuples())
    return {b.token: a.token for a, b in pairs if b.start_time - a.start_time <= time_gap_threshold}
def create_scene_aggregators(all_mappings, full_score_df, proposal_sampling):
    comfort = full_score_df["token"].map({now: 1.0 for now in all_mappings})
    table = full_score_df.assign(two_frame_extended_comfort=comfort)
    return table.drop(columns=["ego_simulated_states"])
def compute_final_scores(pdm_score_df):
    return pdm_score_df.assign(score=pdm_score_df["pdm_score"])
"""


def interface(root: Path, version: str) -> None:
    """Write a package tree with the interface of a version of the devkit."""
    files = {
        "nuplan/planning/simulation/trajectory/trajectory_sampling.py": SAMPLING,
        "navsim/common/dataclasses.py": DATACLASSES,
        "navsim/common/dataloader.py": LOADER,
        "navsim/agents/abstract_agent.py": AGENT.format(
            sampling="trajectory_sampling, " if version == "v2" else ""
        ),
        f"{PDM}/scoring/pdm_scorer.py": SCORER,
        "navsim/evaluate/pdm_score.py": SCORE_V1 if version == "v1" else SCORE_V2,
        f"{PDM}/simulation/pdm_simulator.py": (
            "class PDMSimulator:\n    def __init__(self, proposal_sampling): ..."
        ),
    }
    if version == "v2":
        policy = (
            "class LogReplayTrafficAgents:\n    def __init__(self, future_trajectory_sampling):\n"
            "        self.future_trajectory_sampling = future_trajectory_sampling\n"
        )
        files |= {
            "navsim/traffic_agents_policies/abstract_traffic_agents_policy.py": "",
            "navsim/traffic_agents_policies/log_replay_traffic_agents.py": policy,
            "navsim/planning/script/run_pdm_score_one_stage.py": SCRIPT_V2,
        }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for folder in [file.parent, *file.parent.parents][: len(Path(name).parts) - 1]:
            (folder / "__init__.py").touch()


@pytest.fixture(autouse=True)
def clean_modules(monkeypatch: pytest.MonkeyPatch):
    """Remove the `navsim` modules that a test has imported."""
    yield
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.split(".")[0] in ("navsim", "nuplan")] + [
        "ops.devkit.agent"
    ]:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    interface(tmp_path / "devkit", request.param)
    monkeypatch.syspath_prepend(tmp_path / "devkit")
    return request.param


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("lake"))


def agent_module() -> ModuleType:
    return importlib.import_module("ops.devkit.agent")


def test_the_devkit_and_its_version_are_found_without_importing_it(version: str) -> None:
    assert devkit_version() == version == require_devkit()
    assert not any(name.startswith("navsim.") for name in sys.modules)


def test_a_missing_devkit_is_one_sentence_with_the_command_that_installs_it(tmp_path: Path) -> None:
    assert devkit_version() is None
    for use in (
        require_devkit,
        agent_module,
        lambda: write_submission(tmp_path / "s.pkl", TEAM, {}, version="v1"),
    ):
        with pytest.raises(ConfigError) as caught:
            use()
        assert "not installed" in caught.value.what and "pip install" in caught.value.what
        assert "git+https://github.com/autonomousvision/navsim.git" in caught.value.what
        assert "\n" not in caught.value.what


def test_another_projects_package_of_the_name_navsim_is_not_taken_for_the_devkit(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "navsim").mkdir()
    (tmp_path / "navsim" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert devkit_version() is None
    with pytest.raises(ConfigError, match="another project"):
        require_devkit()
    (tmp_path / "navsim.py").write_text("")  # nor a single module of that name
    (tmp_path / "navsim" / "__init__.py").unlink()
    (tmp_path / "navsim").rmdir()
    importlib.invalidate_caches()
    assert devkit_version() is None


def test_a_devkit_that_lacks_a_package_says_which(version: str, tmp_path: Path) -> None:
    (tmp_path / "devkit/navsim/agents/abstract_agent.py").write_text("import no_such_package")
    with pytest.raises(ConfigError, match="'no_such_package'"):
        agent_module()


def test_the_agent_hands_the_front_image_the_status_and_the_command_of_now_to_the_student(
    version: str, monkeypatch
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    training_camera = np.arange(19, dtype=np.float32)

    def runtime(images: np.ndarray, camera: np.ndarray, status: np.ndarray) -> np.ndarray:
        seen.append((images, camera, status))
        return straight(8.0)

    module = agent_module()
    monkeypatch.setattr(
        Student,
        "from_pretrained",
        lambda folder, runtime: Student(lambda *x: run(*x), (9, 16), training_camera, 1),
    )
    run = runtime
    agent = module.StudentAgent("folder")
    assert agent.name() == "StudentAgent" and not agent.requires_scene
    sensors = agent.get_sensor_config()
    assert sensors.cam_f0 == [3] and not any(
        value for name, value in vars(sensors).items() if name != "cam_f0"
    )
    image = np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    cameras = [SimpleNamespace(cam_f0=SimpleNamespace(image=None)) for _ in range(3)]
    status = SimpleNamespace(
        ego_velocity=np.array([7.0, 0.1], np.float32),
        ego_acceleration=np.array([0.2, 0.3], np.float32),
        driving_command=np.array([0, 0, 1, 0]),
    )
    agent_input = SimpleNamespace(
        cameras=[*cameras, SimpleNamespace(cam_f0=SimpleNamespace(image=image))],
        ego_statuses=[None] * 3 + [status],
    )
    with pytest.raises(ConfigError, match="initialize"):
        agent.compute_trajectory(agent_input)
    agent.initialize()
    plan = agent.compute_trajectory(agent_input)
    assert plan.poses.dtype == np.float32 and plan.trajectory_sampling == module.SAMPLING
    np.testing.assert_allclose(plan.poses, straight(8.0)[0])
    ((images, camera, inputs),) = seen
    np.testing.assert_array_equal(images[0], image)
    np.testing.assert_array_equal(camera[0], training_camera)
    np.testing.assert_allclose(
        inputs[0], [7.0, 0.1, 0.2, 0.3, *np.eye(4)[Command.RIGHT]], rtol=1e-6
    )
    agent_input.cameras = cameras
    with pytest.raises(ConfigError, match="front camera"):
        agent.compute_trajectory(agent_input)


def test_the_agent_refuses_another_sampling_of_the_trajectory(version: str) -> None:
    module = agent_module()
    with pytest.raises(ConfigError, match="8 poses"):
        module.StudentAgent(
            "folder", trajectory_sampling=type(module.SAMPLING)(num_poses=40, interval_length=0.1)
        )


def test_a_submission_has_the_layout_of_its_version(version: str, tmp_path: Path) -> None:
    plans = {"a" * 16: straight(8.0)[0], "b" * 16: straight(3.0)[0]}
    second = {"c" * 17: straight(1.0)[0]} if version == "v2" else None
    write_submission(tmp_path / "submission.pkl", TEAM, plans, version=version, second_stage=second)  # type: ignore[arg-type]
    submission = pickle.loads((tmp_path / "submission.pkl").read_bytes())
    stages = {"v1": ["predictions"], "v2": ["first_stage_predictions", "second_stage_predictions"]}[
        version
    ]
    assert list(submission) == [
        "team_name",
        "authors",
        "email",
        "institution",
        "country / region",
        *stages,
    ]
    assert submission["team_name"] == "name" and submission["country / region"] == "country"
    for stage, wanted in zip(stages, [plans, second], strict=False):
        (trajectories,) = submission[stage]
        assert list(trajectories) == list(wanted)
        for token, trajectory in trajectories.items():
            assert (
                type(trajectory).__module__ == "navsim.common.dataclasses"
                and trajectory.poses.dtype == np.float32
            )
            np.testing.assert_allclose(trajectory.poses, wanted[token])
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["submission.pkl"]


@pytest.mark.parametrize(
    ("plans", "message"),
    [
        ({}, "no plans"),
        ({"t": np.zeros((7, 3))}, "tokens t"),
        ({"t": np.full((8, 3), np.nan)}, "tokens t"),
    ],
)
def test_a_submission_that_the_leaderboard_could_not_score_is_not_written(
    version: str, tmp_path: Path, plans, message
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_submission(tmp_path / "s.pkl", TEAM, plans, version="v1")
    with pytest.raises(ConfigError, match="second stage"):
        write_submission(tmp_path / "s.pkl", TEAM, {"t": straight(1.0)[0]}, version="v2")
    assert not (tmp_path / "s.pkl").exists()


def metric_cache(root: Path, lake: Lake, frames: range) -> Path:
    """A folder with the layout of a metric cache whose entries hold only their time; tokens are
    t<frame>.
    """
    lines = ["file_name"]
    for frame in frames:
        file = root / "log-a" / "unknown" / f"t{frame}" / "metric_cache.pkl"
        file.parent.mkdir(parents=True)
        file.write_text(str(cached_scenes(lake, "log-a")[frame].time_us))  # type: ignore[union-attr]
        lines.append(str(file))
    (root / "metadata").mkdir()
    (root / "metadata" / "metadata_0.csv").write_text("\n".join(lines))
    return root


def answers(version: str, rows: list[dict]) -> dict[str, dict[str, float]]:
    """Answers of the interface with which nothing differs."""
    from ops.devkit.compare import COLUMNS

    names = {ours: theirs for ours, theirs in COLUMNS[version].items() if ours != "ec"}  # type: ignore[index]
    if version == "v2":
        names["score"] = "pdm_score"
    return {
        f"t{row['frame_index']}": {theirs: row[ours] for ours, theirs in names.items()}
        for row in rows
    }


def test_the_comparison_scores_the_same_plans_with_both_and_names_what_differs(
    version, lake, tmp_path, capsys
) -> None:
    frames = range(5, 8)
    rows = [
        {
            "log_id": "log-a",
            "frame_index": frame,
            "planner": "steady",
            "poses": straight(8.0)[0].ravel().tolist(),
        }
        for frame in frames
    ]
    # a scene of the lake that the metric cache lacks
    lost = rows[0] | {"frame_index": 9}
    pq.write_table(pa.Table.from_pylist([*rows, lost]), tmp_path / "plans.parquet")
    cache = metric_cache(tmp_path / "cache", lake, frames)
    ours = score_plans(tmp_path / "plans.parquet", lake, versions=[version]).to_pylist()
    theirs = importlib.import_module("navsim.evaluate.pdm_score")
    theirs.ANSWERS |= answers(version, ours[:3])
    arguments = [
        "score",
        str(tmp_path / "plans.parquet"),
        "--lake",
        str(lake.root),
        "--against-devkit",
        str(cache),
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    table = [line.split() for line in out.split("against the NAVSIM devkit")[1].splitlines()]
    by_column = {line[0]: line[1:4] for line in table if len(line) == 4}
    assert by_column["score"] == ["3", "0", "0"] and by_column["ttc"] == ["3", "0", "0"]
    assert ("ec" in by_column) == (version == "v2") and all(
        line == ["3", "0", "0"] for line in by_column.values()
    )
    assert (
        "the metric cache has no scene of this log at this time: steady at log log-a, frame 9"
        in out
    )
    assert [call[0] for call in theirs.CALLS] == ["t5", "t6", "t7"]
    assert (
        theirs.CALLS[0][1].trajectory_sampling.num_poses == 8 and theirs.CALLS[0][2].num_poses == 40
    )

    theirs.ANSWERS["t6"]["ego_progress"] += 0.25
    del theirs.ANSWERS["t7"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    progress = next(
        line
        for line in out.split("against the NAVSIM devkit")[1].splitlines()
        if line.startswith("ep ")
    )
    assert (
        progress.split()[1:4] == ["2", "1", "0.25"] and "steady at log log-a, frame 6" in progress
    )
    assert "the devkit failed: KeyError: 't7'" in out


def test_results_of_the_devkit_have_the_columns_of_ours(version, lake, tmp_path) -> None:
    from ops.devkit.compare import devkit_results

    plans = pa.Table.from_pylist(
        [
            {
                "log_id": "log-a",
                "frame_index": 5,
                "planner": planner,
                "poses": straight(8.0)[0].ravel().tolist(),
            }
            for planner in ("a", "a", "b")
        ]
    )
    cache = metric_cache(tmp_path / "cache", lake, range(5, 6))
    ours = score_plans(plans, lake, versions=[version])
    importlib.import_module("navsim.evaluate.pdm_score").ANSWERS |= answers(
        version, ours.to_pylist()
    )
    results = devkit_results(plans, lake, cache)
    assert results.schema == RESULTS and results["planner"].to_pylist() == ["a", "a", "b"]
    # the script of v2 scores one plan of a planner at a scene
    assert results["scored"].to_pylist() == [True, version == "v1", True]
    with pytest.raises(ConfigError, match="no metric cache"):
        devkit_results(plans, lake, tmp_path)
