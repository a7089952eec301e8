"""The teachers of the study: a codebook and a VLM, learned from the logs without labels alone.

    <study>/teachers/<number>/codebook    as the `codebook` artefact
    <study>/teachers/<number>/vlm         vlm/, codes.npz, verdict.json

What the VLM says of the labelled logs is therefore as uncertain as on new logs.

Legend: N rows of the students (those with labels first), S code slots, K codes, V visual tokens, C
width of what is read.
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ops.latent_actions.config import RelabelConfig
from ops.latent_actions.learn_actions import learn_actions, read_codebook
from ops.latent_actions.relabel import encode_rows
from ops.planners.training_arrays import planner_frames
from ops.study.config import StudyConfig
from ops.study.towns import Town, together
from ops.training.config import ComputeConfig
from ops.training.runs import TrainingRuns
from ops.vla.code_accuracy import code_accuracy
from ops.vla.finetune import vlm_floors, vlm_job
from ops.vla.verdict import VlmVerdict
from ops.vla.vlm import VlmOutputs, VlmRows, open_vlm, run_vlm
from storage.artifact import Lineage, is_current, write_artifact
from storage.dataset import FrameSet

PARTS = ("codebook", "vlm")
VERDICT_FILE = "verdict.json"


def vlm_folder(root: Path, teacher: int) -> Path:
    """Folder of a teacher's VLM in the study's folder `root`."""
    return root / "teachers" / str(teacher) / "vlm" / "vlm"


def vlm_streams(outputs: VlmOutputs, reads: str) -> dict[str, np.ndarray]:
    """What a fused planner reads of a VLM, `visual` (N, V, C) and `action` (N, S, C) float16.

    Of "hidden" states both; of "codes" no visual stream (zeros), and for each slot the distribution
    of its code and which slot it is, C = K + S, as the oracle of the ablation reads the recorded
    codes.
    """
    if reads == "hidden":
        return {"visual": outputs.visual, "action": outputs.action}
    logits_NSK = outputs.code_logits.astype(np.float32)
    odds_NSK = np.exp(logits_NSK - logits_NSK.max(axis=-1, keepdims=True))
    count, slots, codes = logits_NSK.shape
    action = np.zeros((count, slots, codes + slots), dtype=np.float16)
    action[..., :codes] = odds_NSK / odds_NSK.sum(axis=-1, keepdims=True)
    action[..., codes:] = np.eye(slots)
    return {"visual": np.zeros((count, 1, codes + slots), np.float16), "action": action}


@dataclass(frozen=True, slots=True)
class TeacherCodes:
    """What a teacher says of the students' rows, and what the recorded codes are."""

    log_id: np.ndarray  # (N,) str, with the town before it
    frame_index: np.ndarray  # (N,) int32
    logits: np.ndarray  # (N, S, K) float16, of the VLM
    codes: np.ndarray  # (N, S) int64, of the codebook
    valid: np.ndarray  # (N, S) bool

    def save(self, folder: Path) -> None:
        """Write `codes.npz`."""
        np.savez(folder / "codes.npz", **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def open(cls, folder: Path) -> "TeacherCodes":
        """Read `codes.npz`."""
        with np.load(folder / "codes.npz", allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class TeacherJob:
    """One teacher to make; it runs in a process of its own."""

    number: int
    folder: Path  # <study>/teachers/<number>
    lineages: dict[str, Lineage]  # of PARTS
    towns: list[Town]
    config: StudyConfig
    compute: ComputeConfig
    runs: Path

    def __call__(self) -> None:
        """Make the parts that are missing or stale."""
        torch.set_num_threads(self.compute.threads)
        for part, make in (("codebook", self._codebook), ("vlm", self._vlm)):
            path, lineage = self.folder / part, self.lineages[part]
            if is_current(path, lineage.version):
                continue
            name = f"study-teacher-{self.number}-{lineage.version}"
            with write_artifact(path, lineage) as out:
                make(out, name)
            for leftover in self.runs.glob(f"{name}-*"):
                shutil.rmtree(leftover)

    def _codebook(self, out: Path, name: str) -> None:
        size_hw = self.config.codebook.image_hw
        learn_actions(
            self._rows("unlabelled", size_hw),
            self._rows("labelled", size_hw),
            out,
            self.config.codebook,
            compute=self.compute,
            runs=self.runs,
            name=name,
            seed=self.number,
        )

    def _vlm(self, out: Path, name: str) -> None:
        groups = [
            self._with_codes(self._rows(group, self.config.vla.image_hw), group)
            for group in ("labelled", "unlabelled")
        ]
        _, unlabelled = groups
        training = TrainingRuns(self.compute, self.runs, name, self.number)
        config = replace(
            self.config.vla, vlm_fit=self.config.size.vlm_fit, recipe=self.config.recipe
        )
        training.launch(
            vlm_job(unlabelled, out, config, self.config.codebook.num_codes, training)[1]
        )
        training.finish(("vlm",), out / "history")
        students = [planner_frames(part, self.config.recipe.rows)[0] for part in groups]
        rows, heldout = FrameSet.concatenated(students), students[0]
        vlm = open_vlm(out / "vlm")
        outputs = run_vlm(vlm, VlmRows.of(rows))
        TeacherCodes(
            rows.log_id.astype(str),
            rows.frame_index,
            outputs.code_logits,
            rows.codes,
            rows.codes_valid,
        ).save(out)
        verdict = self._verdict(unlabelled, heldout, vlm, outputs.code_logits[: len(heldout)])
        (out / VERDICT_FILE).write_text(json.dumps(asdict(verdict), indent=1))

    def _verdict(self, unlabelled: FrameSet, rows: FrameSet, vlm, logits: np.ndarray) -> VlmVerdict:
        """Cross-entropies on the labelled rows, which neither the VLM nor its floors have seen."""
        num_codes = self.config.codebook.num_codes
        floors = vlm_floors(vlm, rows, unlabelled, self.config.recipe.rows, num_codes, self.number)
        own = code_accuracy(
            logits, rows.codes, rows.codes_valid, unlabelled.codes, unlabelled.codes_valid
        )
        return VlmVerdict(*(item.cross_entropy_nats for item in (own, *floors)))

    def _rows(self, group: str, size_hw: tuple[int, int]) -> FrameSet:
        return together([(town, town.read(group, size_hw)) for town in self.towns])

    def _with_codes(self, rows: FrameSet, group: str) -> FrameSet:
        small = self._rows(group, self.config.codebook.image_hw)
        model, gap_s = read_codebook(self.folder / "codebook")
        relabel: RelabelConfig = replace(self.config.relabeled, threads=self.compute.threads)
        codes, valid, _ = encode_rows(small, model, gap_s, relabel)
        return replace(rows, codes=codes, codes_valid=valid)
