"""The student as an agent of the NAVSIM devkit, v1.1 and v2. Importing it needs the devkit.

    python .../run_pdm_score.py agent._target_=latentvla.devkit.StudentAgent
    +agent.student=lake/navsim/student

The interface is the devkit's AbstractAgent, whose constructor takes the sampling of the trajectory
in v2 only.
"""

from inspect import signature
from typing import Any

import numpy as np

from ops.devkit.find import incomplete_devkit, require_devkit
from ops.student.predict import Student
from storage.errors import ConfigError
from storage.sources.openscene_frames import command_of
from storage.trajectory_table import FUTURE_STEPS

require_devkit()
try:
    from navsim.agents.abstract_agent import AbstractAgent
    from navsim.common.dataclasses import AgentInput, SensorConfig, Trajectory
    from nuplan.planning.simulation.trajectory.trajectory_sampling import TrajectorySampling
except ModuleNotFoundError as error:
    raise incomplete_devkit(error) from error

# index of the current frame among the four that the devkit passes
NOW = 3
SAMPLING = TrajectorySampling(time_horizon=4, interval_length=0.5)


class StudentAgent(AbstractAgent):
    """Plans with the student of an artefact folder from the current front image, the ego status and
    the command.

    The devkit passes no camera calibration with the image; the student assumes the camera of the
    logs it was trained on.
    """

    requires_scene = False

    def __init__(
        self, student: str, runtime: str = "onnx", trajectory_sampling: Any = SAMPLING
    ) -> None:
        """`student` is the folder of a student, `runtime` onnx, int8 or torch.

        Raises ConfigError for another sampling than 8 poses at 0.5 s.
        """
        if (trajectory_sampling.num_poses, trajectory_sampling.interval_length) != (
            FUTURE_STEPS,
            0.5,
        ):
            raise ConfigError("the student plans 8 poses, 0.5 s apart", found=trajectory_sampling)
        if "trajectory_sampling" in signature(AbstractAgent.__init__).parameters:
            super().__init__(trajectory_sampling)
        else:
            super().__init__()
        self._folder, self._runtime, self._sampling = student, runtime, trajectory_sampling
        self._student: Student | None = None

    def name(self) -> str:
        """Name of the agent in the devkit's tables."""
        return type(self).__name__

    def initialize(self) -> None:
        """Load the student; the devkit calls this in each worker."""
        self._student = Student.from_pretrained(self._folder, runtime=self._runtime)

    def get_sensor_config(self) -> SensorConfig:
        """Only the current image of the front camera."""
        config = SensorConfig.build_no_sensors()
        config.cam_f0 = [NOW]
        return config

    def compute_trajectory(self, agent_input: AgentInput) -> Trajectory:
        """The plan for one scene. Raises ConfigError before `initialize`, and for a scene without a
        front image.
        """
        if self._student is None:
            raise ConfigError(
                "the agent has no student yet",
                do="call initialize() first, as the devkit's scripts do",
            )
        image, now = agent_input.cameras[-1].cam_f0.image, agent_input.ego_statuses[-1]
        if image is None:
            raise ConfigError(
                "the scene has no image of the front camera",
                do="load it with the sensor configuration that get_sensor_config() gives",
            )
        status = np.concatenate([now.ego_velocity, now.ego_acceleration])
        poses = self._student.plan(
            np.asarray(image)[None], status[None], [command_of(now.driving_command)]
        )[0]
        return Trajectory(poses.astype(np.float32), self._sampling)
