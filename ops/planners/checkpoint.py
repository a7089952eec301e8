"""Save and load the planners of the `vla` and `student` artefacts as checkpoints. Not their
training, not the VLM.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import nn

from models.planners.config import (
    EgoMlpConfig,
    FusionConfig,
    GroundConfig,
    ImitatorConfig,
    PlannerConfig,
)
from models.planners.ego_mlp import EgoMlp
from models.planners.fusion import FusedPlannerNet
from models.planners.planner import PlannerNet
from models.planners.student import StudentNet
from storage.checkpoint import load_checkpoint, save_checkpoint

AnyPlanner = PlannerNet | FusedPlannerNet | StudentNet | EgoMlp


def save_planner(folder: Path, model: AnyPlanner) -> None:
    """Write config.json and model.safetensors; the configuration's parts carry the names of their
    dataclasses.
    """
    parts: dict[str, Any]
    if isinstance(model, FusedPlannerNet):
        kind, parts = (
            "fused_planner",
            {"planner": model.planner.config, "fusion": model.fusion_config},
        )
    elif isinstance(model, StudentNet):
        kind, parts = (
            "student",
            {"planner": model.planner.config, "imitator": model.imitator_config},
        )
    elif isinstance(model, PlannerNet):
        kind, parts = "planner", {"planner": model.config}
    else:
        kind, parts = "ego_mlp", {"ego_mlp": model.config}
    config: dict[str, Any] = {name: asdict(part) for name, part in parts.items()}
    save_checkpoint(
        folder, kind, config | {"parameters": count_parameters(model)}, model.state_dict()
    )


def load_planner(folder: Path, kind: str) -> Any:
    """The network of a folder: kind planner, fused_planner, student or ego_mlp; in evaluation mode,
    on the CPU.

    Raises ArtifactError if the folder holds no checkpoint, one of another kind, or one of another
    format version.
    """
    config, tensors = load_checkpoint(folder, kind)
    config.pop("parameters")
    model = build_planner(kind, {name: _config(name, values) for name, values in config.items()})
    model.load_state_dict(tensors)
    return model.eval()


def build_planner(kind: str, parts: Mapping[str, Any]) -> AnyPlanner:
    """A fresh network from its configurations by name: planner, fusion, imitator, ego_mlp."""
    if kind == "fused_planner":
        return FusedPlannerNet(parts["planner"], parts["fusion"])
    if kind == "student":
        return StudentNet(parts["planner"], parts["imitator"])
    return PlannerNet(parts["planner"]) if kind == "planner" else EgoMlp(parts["ego_mlp"])


def count_parameters(model: nn.Module) -> int:
    """Learned numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def host(model: nn.Module) -> PlannerNet:
    """The host planner inside a planner that has one."""
    inner = model if isinstance(model, PlannerNet) else model.planner
    assert isinstance(inner, PlannerNet)
    return inner


def _config(name: str, values: Mapping[str, Any]) -> Any:
    kind: Any = {
        "planner": PlannerConfig,
        "ground": GroundConfig,
        "fusion": FusionConfig,
        "imitator": ImitatorConfig,
        "ego_mlp": EgoMlpConfig,
    }[name]
    return kind(
        **{
            item.name: _config(item.name, values[item.name])
            if item.name == "ground"
            else _tuples(values[item.name])
            for item in fields(kind)
        }
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
