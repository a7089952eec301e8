"""The latent-action model: discrete codes for the change between two frames, learned in two phases.

The scheme of UniVLA as LatentVLA applies it to driving. Phase 1, EnvironmentPhase: the first frame
is warped by the recorded trajectory, and the environment codes describe the remaining change. Phase
2, EgoPhase: the environment codes are frozen, the trajectory is not an input, and the ego codes
learn the ego motion. Encoding frames needs only images and the camera's calibration.

Legend: B rows, C channels, H x W cells of the observation, K tokens, D code dimension, M length of
the motion embedding, T length of the condition, N camera numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.latent_action.config import LatentActionConfig
from models.latent_action.forward_dynamics import Stage
from models.latent_action.inverse_dynamics import PairEncoder
from models.latent_action.motion_sweep import SWEEP_OUTPUTS, MotionSweep
from models.latent_action.observation import PatchFeatures, Pixels
from models.latent_action.quantizer import Quantized, Quantizer
from models.latent_action.warp import multiscale_l1

# length of the condition: forward m, left m, turn rad over the gap; vx, vy m/s, yaw rate rad/s and
# ax, ay m/s2 at its beginning
CONDITION = 8
MOTION_TARGETS = 2  # forward m and turn rad, the targets of the optional ego-motion head


class Prediction(NamedTuple):
    """Predicted second observation: from the ego motion alone, and with the environment codes."""

    ego_motion_BCHW: Tensor
    whole_BCHW: Tensor
    flow_B2HW: Tensor  # of the ego motion, in half image sides


class Loss(NamedTuple):
    """Loss of a batch and its terms, () each."""

    total: Tensor
    prediction: Tensor  # of the second observation, multi-scale L1
    commitment: Tensor  # of the quantizer


class EnvironmentPhase(nn.Module):
    """Phase 1: codes for the change that the ego motion does not explain."""

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
        """Set mean and standard deviation of the condition from all training rows (N, T).

        Lateral components get mean 0, so that mirrored rows stay mirrored.
        """
        offset = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0], dtype=conditions_NT.dtype)
        self.condition_mean.copy_(conditions_NT.mean(0) * offset)
        self.condition_std.copy_(conditions_NT.std(0, correction=0) + 1e-3)

    def move_by_trajectory(self, first_BCHW: Tensor, condition_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Second observation predicted from the trajectory alone, and the flow."""
        return self.move(
            first_BCHW, self.motion((condition_BT - self.condition_mean) / self.condition_std)
        )

    def encode(self, moved_BCHW: Tensor, second_BCHW: Tensor) -> Quantized:
        """Codes of the change between the moved first observation and the second."""
        return self.quantizer(self.encoder(moved_BCHW.detach(), second_BCHW))

    def forward(self, first_BCHW: Tensor, second_BCHW: Tensor, condition_BT: Tensor) -> Loss:
        """Loss of a batch of observation pairs."""
        moved_BCHW, _ = self.move_by_trajectory(first_BCHW, condition_BT)
        action = self.encode(moved_BCHW, second_BCHW)
        whole_BCHW, _ = self.change(moved_BCHW, action.values_BKD.flatten(1))
        prediction = multiscale_l1(whole_BCHW, second_BCHW)
        return Loss(
            prediction + multiscale_l1(moved_BCHW, second_BCHW) + action.loss,
            prediction,
            action.loss,
        )


class EgoPhase(nn.Module):
    """Phase 2: codes for the ego motion between two observations; these label the frames."""

    def __init__(self, config: LatentActionConfig, observe: Pixels | PatchFeatures) -> None:
        super().__init__()
        self.config = config
        quantizer = config.ego_quantizer
        tokens = quantizer.tokens * quantizer.code_dim
        self.sweep = MotionSweep(config.sweep) if config.sweep is not None else None
        self.sweep_head = (
            nn.Sequential(
                nn.BatchNorm1d(SWEEP_OUTPUTS, affine=False),
                nn.Linear(SWEEP_OUTPUTS, 64),
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
        """Copy the stages of phase 1, so that only the mapping from codes to motion is new."""
        self.move.load_state_dict(environment.move.state_dict())
        if self.change is not None:
            self.change.load_state_dict(environment.change.state_dict())

    def encode(self, first_BCHW: Tensor, second_BCHW: Tensor, camera_BN: Tensor) -> Quantized:
        """Ego codes of pairs of observations and camera numbers (B, 19), see
        storage.camera.camera_numbers.
        """
        if self.sweep is None or self.sweep_head is None:
            return self.quantizer(self.encoder(first_BCHW, second_BCHW))
        swept_B3 = self.sweep(first_BCHW, second_BCHW, camera_BN)
        return self.quantizer(self.encoder(first_BCHW, second_BCHW) + self.sweep_head(swept_B3))

    def predict(
        self, first_BCHW: Tensor, ego_BKD: Tensor, environment_BKD: Tensor | None
    ) -> Prediction:
        """Predict the second observation from the first and the values of both codes."""
        moved_BCHW, flow_B2HW = self.move(first_BCHW, self.motion(ego_BKD.flatten(1)))
        if self.change is None or environment_BKD is None:
            return Prediction(moved_BCHW, moved_BCHW, flow_B2HW)
        whole_BCHW, _ = self.change(moved_BCHW, environment_BKD.flatten(1))
        return Prediction(moved_BCHW, whole_BCHW, flow_B2HW)

    def forward(
        self,
        first_BCHW: Tensor,
        second_BCHW: Tensor,
        camera_BN: Tensor,
        environment_BKD: Tensor | None,
        motion_B2: Tensor,
    ) -> Loss:
        """Loss of a batch; only the ego-motion head uses `motion_B2`, its scaled targets."""
        action = self.encode(first_BCHW, second_BCHW, camera_BN)
        predicted = self.predict(first_BCHW, action.values_BKD, environment_BKD)
        prediction = multiscale_l1(predicted.whole_BCHW, second_BCHW)
        total = prediction + action.loss
        if self.change is not None:
            total = total + multiscale_l1(predicted.ego_motion_BCHW, second_BCHW)
        if self.head is not None:
            error_B2 = self.head(action.values_BKD.flatten(1)) - motion_B2
            total = total + self.config.ego_motion_weight * error_B2.square().mean()
        return Loss(total, prediction, action.loss)


class LatentActionModel(nn.Module):
    """Both phases and the observation that they share; `encode` labels frames."""

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
        """Ego codes int64 (B, K) of pairs of images uint8 (B, H, W, 3), camera numbers (B, 19)."""
        return self.ego.encode(
            self.observe(first_BHW3), self.observe(second_BHW3), camera_BN
        ).codes_BK

    @torch.no_grad()
    def environment_of(
        self, first_BCHW: Tensor, second_BCHW: Tensor, condition_BT: Tensor
    ) -> Quantized | None:
        """Environment codes of pairs of observations with their trajectories; None for a model
        without environment codes.
        """
        if self.environment is None:
            return None
        moved_BCHW, _ = self.environment.move_by_trajectory(first_BCHW, condition_BT)
        return self.environment.encode(moved_BCHW, second_BCHW)

    def kept_state(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint: all except the frozen vision model's."""
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("observe.")
        }

    def load_kept_state(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors of kept_state(). Raises RuntimeError if one is missing or unexpected."""
        observation = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name.startswith("observe.")
        }
        self.load_state_dict(observation | tensors)


def ego_stage(config: LatentActionConfig, observe: Pixels | PatchFeatures) -> Stage:
    """The stage that applies the ego motion to an observation."""
    return Stage(
        observe.channels, observe.grid_hw, observe.motion_downsamples, config.motion, config.move
    )


def environment_stage(config: LatentActionConfig, observe: Pixels | PatchFeatures) -> Stage:
    """The stage that applies the environment codes to a moved observation."""
    quantizer = config.environment_quantizer
    return Stage(
        observe.channels,
        observe.grid_hw,
        observe.motion_downsamples,
        quantizer.tokens * quantizer.code_dim,
        config.change,
    )
