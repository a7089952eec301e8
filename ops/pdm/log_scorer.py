"""The scenes of one log, opened through the scene cache, and the scores of its plans in time order.

The two-frame (extended) comfort of EPDMS compares the simulated states of a plan with those of the
same planner in the frame before, so one `LogScorer` scores all plans of a log, frame after frame.
K plans, n poses a plan.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ops.pdm.config import Version
from ops.pdm.prepared import PreparedScene, prepare, total_score
from ops.pdm.rules.comfort import EXTENDED_MAX_GAP_S, extended_comfort
from ops.pdm.rules.vehicle import KEY_STEP_S
from ops.pdm.scene.cache import cached_scenes
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores, score
from storage.errors import SourceError
from storage.lake import Lake

# logs that a process keeps open between calls; the prepared scenes of one take about 20 MB
OPEN_LOGS = 4
NO_SCENE = "the log has no scene at this frame: that takes 1.5 s before it and 5 s after"


class OpenLog:
    """The scenes of one log by frame. Raises ArtifactError if the lake has no such log."""

    def __init__(self, lake: Lake, log_id: str) -> None:
        self.scenes: dict[int, Scene | SourceError] = cached_scenes(lake, log_id)
        self._prepared: dict[int, PreparedScene] = {}

    def prepared(self, frame_index: int) -> PreparedScene | str:
        """The prepared scene at a frame, kept for the next call, or why there is none."""
        scene = self.scenes.get(frame_index)
        if not isinstance(scene, Scene):
            return NO_SCENE if scene is None else str(scene)
        if frame_index not in self._prepared:
            self._prepared[frame_index] = prepare(scene)
        return self._prepared[frame_index]


# open logs of this process, the one used last at the end
_OPEN: dict[tuple[Lake, str], OpenLog] = {}


def open_log(lake: Lake, log_id: str) -> OpenLog:
    """A log of the lake; a process keeps the OPEN_LOGS logs that it used last."""
    log = _OPEN.pop((lake, log_id), None) or OpenLog(lake, log_id)
    _OPEN[lake, log_id] = log
    while len(_OPEN) > OPEN_LOGS:
        del _OPEN[next(iter(_OPEN))]
    return log


@dataclass(frozen=True, slots=True)
class PlanBatch:
    """Plans of one frame with the same number of poses and the same spacing."""

    planners: Sequence[Hashable]  # (K,) the planner of each plan
    plans_Kn3: np.ndarray  # x, y, heading in the ego frame
    dt_s: float = KEY_STEP_S  # between poses


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Scores of a batch in one version."""

    scores: PdmScores
    ec: np.ndarray  # (K,) two-frame comfort of v2; NaN in v1 and without a plan in the frame before
    total: np.ndarray  # (K,) PDMS, or EPDMS with the two-frame comfort


@dataclass(slots=True)
class LogScorer:
    """Scores the frames of one log in time order and keeps each planner's last simulated states."""

    versions: tuple[Version, ...]
    # planner -> time in us and simulated states (41, 11) of its last plan
    _last: dict[Hashable, tuple[int, np.ndarray]] = field(default_factory=dict)

    def score(
        self, prepared: PreparedScene, batches: Sequence[PlanBatch]
    ) -> list[dict[Version, BatchScores]]:
        """Score all plans of one frame, the next in time: for each batch its scores by version.

        If a planner has several plans at a frame, each is compared with the planner's last plan of
        the frame before. Raises ConfigError as `score` does.
        """
        results: list[dict[Version, BatchScores]] = []
        last = dict(self._last)
        for batch in batches:
            by_version: dict[Version, BatchScores] = {}
            for version in self.versions:
                scores = score(prepared, batch.plans_Kn3, version=version, dt_s=batch.dt_s)
                by_version[version] = self._with_extended_comfort(prepared, batch, scores)
                if version == "v2":
                    time_us = prepared.scene.time_us
                    states = zip(batch.planners, scores.states, strict=True)
                    last |= {planner: (time_us, state) for planner, state in states}
            results.append(by_version)
        self._last = last
        return results

    def forget(self) -> None:
        """Drop the kept states: the next frame has no frame before it."""
        self._last = {}

    def _with_extended_comfort(
        self, prepared: PreparedScene, batch: PlanBatch, scores: PdmScores
    ) -> BatchScores:
        ec = np.full(len(scores), np.nan)
        if scores.version == "v1":
            return BatchScores(scores, ec, scores.score)
        for k, planner in enumerate(batch.planners):
            time_us, states = self._last.get(planner, (prepared.scene.time_us, None))
            gap_s = (prepared.scene.time_us - time_us) / 1e6
            if states is not None and 0 < gap_s < EXTENDED_MAX_GAP_S:
                ec[k] = extended_comfort(scores.states[k], states, gap_s)[0]
        return BatchScores(scores, ec, total_score(scores.sub_scores, "v2", ec))
