"""The latent-action model: codes for what happens between two frames, learned in two phases. Not
its training loop.

UniVLA's scheme as LatentVLA carries it to driving. Phase (a), EnvironmentPhase: the frame is moved
by the known trajectory first, and codes explain what that leaves over. Phase (b), EgoPhase: those
codes are frozen, the trajectory is taken away, and new codes must say how the ego moved. Labelling
frames needs images and the camera's calibration alone.

Legend: B batch, C channels, H x W cells of the observation, K tokens, D code dimension, M motion, T
condition, N camera numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.latent_action.config import LatentActionConfig
from models.latent_action.forward_dynamics import Stage
from models.latent_action.inverse_dynamics import PairEncoder
from models.latent_action.motion_sweep import SWEPT, MotionSweep
from models.latent_action.observation import PatchFeatures, Pixels
from models.latent_action.quantizer import Quantized, Quantizer
from models.latent_action.warp import multiscale_l1

# forward m, left m, turn rad over the gap; vx, vy m/s, yaw rate rad/s, ax, ay m/s2 at its beginning
CONDITION = 8
MOTION_TARGETS = 2  # forward m and turn rad, what the optional ego-motion head tells


class Prediction(NamedTuple):
    """The second observation as foretold: by the ego's motion alone, and with the environment
    codes.
    """

    by_ego_BCHW: Tensor
    whole_BCHW: Tensor
    flow_B2HW: Tensor  # of the ego's motion, in half image sides


class Loss(NamedTuple):
    """One training step's loss and what to record of it."""

    total: Tensor
    prediction: Tensor
    commitment: Tensor


class EnvironmentPhase(nn.Module):
    """Phase (a): codes for what the ego's own motion does not explain."""

    condition_mean: Tensor
    condition_std: Tensor

    def __init__(self, config: LatentActionConfig, observe: Pixels | PatchFeatures) -> None:
        super().__init__()
        quantizer = config.environment_quantizer
        tokens = quantizer.tokens * quantizer.code_dim
        self.register_buffer("condition_mean", torch.zeros(CONDITION))
        self.register_buffer("condition_std", torch.ones(CONDITION))
        self.motion = nn.Sequential(
            nn.Linear(CONDITION, 64), nn.GELU(), nn.Linear(64, config.motion)
        )
        self.move = ego_stage(config, observe)
        self.encoder = PairEncoder(
            observe.channels,
            observe.grid_hw,
            observe.match_downsamples,
            tokens,
            config.environment_encoder,
        )
        self.quantizer = Quantizer(quantizer)
        self.change = environment_stage(config, observe)

    def normalize_by(self, conditions_NT: Tensor) -> None:
        """Learn the condition's scale from all training rows. Left and right get no offset:
        mirrored rows agree.
        """
        offset = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0], dtype=conditions_NT.dtype)
        self.condition_mean.copy_(conditions_NT.mean(0) * offset)
        self.condition_std.copy_(conditions_NT.std(0, correction=0) + 1e-3)

    def by_trajectory(self, first_BCHW: Tensor, condition_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The second observation if nothing but the ego had moved, and the flow."""
        return self.move(
            first_BCHW, self.motion((condition_BT - self.condition_mean) / self.condition_std)
        )

    def encode(self, moved_BCHW: Tensor, second_BCHW: Tensor) -> Quantized:
        """Codes of what lies between the moved first observation and the second."""
        return self.quantizer(self.encoder(moved_BCHW.detach(), second_BCHW))

    def forward(self, first_BCHW: Tensor, second_BCHW: Tensor, condition_BT: Tensor) -> Loss:
        """Loss of a batch of observation pairs."""
        moved_BCHW, _ = self.by_trajectory(first_BCHW, condition_BT)
        action = self.encode(moved_BCHW, second_BCHW)
        whole_BCHW, _ = self.change(moved_BCHW, action.values_BKD.flatten(1))
        prediction = multiscale_l1(whole_BCHW, second_BCHW)
        return Loss(
            prediction + multiscale_l1(moved_BCHW, second_BCHW) + action.loss,
            prediction,
            action.loss,
        )


class EgoPhase(nn.Module):
    """Phase (b), and what is kept: ego-centric codes of a pair of observations."""

    def __init__(self, config: LatentActionConfig, observe: Pixels | PatchFeatures) -> None:
        super().__init__()
        self.config = config
        quantizer = config.ego_quantizer
        tokens = quantizer.tokens * quantizer.code_dim
        self.sweep = MotionSweep(config.sweep) if config.sweep is not None else None
        self.sweep_head = (
            nn.Sequential(
                nn.BatchNorm1d(SWEPT, affine=False),
                nn.Linear(SWEPT, 64),
                nn.GELU(),
                nn.Linear(64, tokens),
            )
            if config.sweep is not None
            else None
        )
        self.encoder = PairEncoder(
            observe.channels, observe.grid_hw, observe.match_downsamples, tokens, config.encoder
        )
        self.quantizer = Quantizer(quantizer)
        self.motion = nn.Sequential(nn.Linear(tokens, 64), nn.GELU(), nn.Linear(64, config.motion))
        self.move = ego_stage(config, observe)
        self.change = environment_stage(config, observe) if config.environment == "frozen" else None
        self.head = nn.Linear(tokens, MOTION_TARGETS) if config.ego_motion_weight else None

    def start_from(self, environment: EnvironmentPhase) -> None:
        """Take over how motion moves a frame: only how codes tell the motion is left to be learned."""
        self.move.load_state_dict(environment.move.state_dict())
        if self.change is not None:
            self.change.load_state_dict(environment.change.state_dict())

    def encode(self, first_BCHW: Tensor, second_BCHW: Tensor, camera_BN: Tensor) -> Quantized:
        """Ego codes of pairs of observations and their camera's numbers (B, 19), see
        storage.dataset.camera_numbers.
        """
        if self.sweep is None or self.sweep_head is None:
            return self.quantizer(self.encoder(first_BCHW, second_BCHW))
        swept_B3 = self.sweep(first_BCHW, second_BCHW, camera_BN)
        return self.quantizer(self.encoder(first_BCHW, second_BCHW) + self.sweep_head(swept_B3))

    def predict(
        self, first_BCHW: Tensor, ego_BKD: Tensor, environment_BKD: Tensor | None
    ) -> Prediction:
        """The second observation from the first and both codes' values."""
        by_ego_BCHW, flow_B2HW = self.move(first_BCHW, self.motion(ego_BKD.flatten(1)))
        if self.change is None or environment_BKD is None:
            return Prediction(by_ego_BCHW, by_ego_BCHW, flow_B2HW)
        return Prediction(
            by_ego_BCHW, self.change(by_ego_BCHW, environment_BKD.flatten(1))[0], flow_B2HW
        )

    def forward(
        self,
        first_BCHW: Tensor,
        second_BCHW: Tensor,
        camera_BN: Tensor,
        environment_BKD: Tensor | None,
        motion_B2: Tensor,
    ) -> Loss:
        """Loss of a batch; `motion_B2`, scaled, is used by the ego-motion head alone."""
        action = self.encode(first_BCHW, second_BCHW, camera_BN)
        foretold = self.predict(first_BCHW, action.values_BKD, environment_BKD)
        prediction = multiscale_l1(foretold.whole_BCHW, second_BCHW)
        total = prediction + action.loss
        if self.change is not None:
            total = total + multiscale_l1(foretold.by_ego_BCHW, second_BCHW)
        if self.head is not None:
            told_B2 = self.head(action.values_BKD.flatten(1))
            total = total + self.config.ego_motion_weight * (told_B2 - motion_B2).square().mean()
        return Loss(total, prediction, action.loss)


class LatentActionModel(nn.Module):
    """Both phases and the observation they share. `encode` is what labels frames."""

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__()
        self.config = config
        self.observe = (
            PatchFeatures(config.vision_model, config.image_hw)
            if config.observation == "features"
            else Pixels(config.image_hw)
        )
        self.environment = (
            EnvironmentPhase(config, self.observe) if config.environment == "frozen" else None
        )
        self.ego = EgoPhase(config, self.observe)

    @torch.no_grad()
    def encode(self, first_BHW3: Tensor, second_BHW3: Tensor, camera_BN: Tensor) -> Tensor:
        """Ego codes (B, K) int64 of pairs of uint8 images and their camera's numbers."""
        return self.ego.encode(
            self.observe(first_BHW3), self.observe(second_BHW3), camera_BN
        ).codes_BK

    @torch.no_grad()
    def environment_of(
        self, first_BCHW: Tensor, second_BCHW: Tensor, condition_BT: Tensor
    ) -> Quantized | None:
        """Environment codes of pairs of observations whose trajectory is known; None without that
        phase.
        """
        if self.environment is None:
            return None
        moved_BCHW, _ = self.environment.by_trajectory(first_BCHW, condition_BT)
        return self.environment.encode(moved_BCHW, second_BCHW)

    def kept_state(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint: all but the frozen vision model's."""
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("observe.")
        }

    def load_kept_state(self, tensors: dict[str, Tensor]) -> None:
        """Load what kept_state() gave. Raises RuntimeError if a tensor is missing or not ours."""
        ours = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name.startswith("observe.")
        }
        self.load_state_dict(ours | tensors)


def ego_stage(config: LatentActionConfig, observe: Pixels | PatchFeatures) -> Stage:
    """The stage that moves a frame as the ego moved."""
    return Stage(
        observe.channels, observe.grid_hw, observe.motion_downsamples, config.motion, config.move
    )


def environment_stage(config: LatentActionConfig, observe: Pixels | PatchFeatures) -> Stage:
    """The stage that changes a moved frame by what else happened."""
    quantizer = config.environment_quantizer
    return Stage(
        observe.channels,
        observe.grid_hw,
        observe.motion_downsamples,
        quantizer.tokens * quantizer.code_dim,
        config.change,
    )
