"""The published weights that a preset names, and the check that they are there before any work."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from assets.chain.preset import Preset
from storage.asset_names import ASSET_NAMES
from storage.errors import ConfigError

DINOV2_VARIABLE = "LATENTVLA_DINOV2"
QWEN_VARIABLE = "LATENTVLA_QWEN"
WEIGHT_FILES = ("*.safetensors", "*.bin")


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Published weights that an asset needs."""

    model: str  # its name for people
    asset: str  # trained with these weights; later assets read it
    variable: str  # environment variable that names the folder
    folder: str  # local folder in the Hugging Face layout; "" if it was not given
    model_type: str | None = None  # required in config.json; None: any


def published_weights(preset: Preset) -> list[PublishedWeights]:
    """The published weights of a preset, in the order of the assets; none if all networks are new
    ones.
    """
    weights = []
    codebook, vlm = preset.codebook.model, preset.vla.vlm
    if codebook.observation == "features":
        weights.append(
            PublishedWeights("DINOv2", "codebook", DINOV2_VARIABLE, codebook.vision_model)
        )
    if vlm.pretrained is not None:
        weights.append(
            PublishedWeights("Qwen2.5-VL", "vla", QWEN_VARIABLE, vlm.pretrained, "qwen2_5_vl")
        )
    return weights


def require_weights(preset: Preset, assets: Collection[str]) -> None:
    """Raise ConfigError if one of `assets` is trained with published weights whose folder is not
    given, or is not a folder with config.json and weights of that model.
    """
    for weights in published_weights(preset):
        fault = _fault(weights) if weights.asset in assets else ""
        if fault:
            before = ASSET_NAMES[ASSET_NAMES.index(weights.asset) - 1]
            raise ConfigError(
                f"the published weights of {weights.model}, which '{weights.asset}' needs, "
                "are missing",
                where=f"environment variable {weights.variable}",
                expected=f"a local folder with config.json and weights of {weights.model}",
                found=fault,
                do=f"download them and set {weights.variable} to their folder, or end the run "
                f"before: --until {before}",
            )


def _fault(weights: PublishedWeights) -> str:
    """What is wrong with the folder of weights; "" if nothing is."""
    if not weights.folder:
        return "the variable is not set"
    folder = Path(weights.folder)
    config = folder / "config.json"
    if not config.is_file():
        return f"{folder}, {'without config.json' if folder.is_dir() else 'which is no folder'}"
    if not any(file for pattern in WEIGHT_FILES for file in folder.glob(pattern)):
        return f"{folder}, without a file {' or '.join(WEIGHT_FILES)}"
    try:
        model_type = json.loads(config.read_text()).get("model_type")
    except (ValueError, AttributeError):
        return f"{config}, which is no JSON object"
    if weights.model_type not in (None, model_type):
        return f"{config} of model_type {model_type!r} instead of {weights.model_type!r}"
    return ""
