"""Save and load the planners of the `vla` and `student` artefacts as checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import nn

from ops.planners.kinds import CONFIG_CLASSES, KINDS, kind_of
from storage.checkpoint import load_checkpoint, save_checkpoint


def save_planner(folder: Path, model: nn.Module) -> None:
    """Write config.json and model.safetensors; config.json holds the network's configurations by
    their names in ops.planners.kinds.CONFIG_CLASSES.
    """
    kind = kind_of(model)
    config: dict[str, Any] = {name: asdict(part) for name, part in kind.parts(model).items()}
    config["parameters"] = count_parameters(model)
    save_checkpoint(folder, kind.name, config, model.state_dict())


def load_planner(folder: Path, kind: str) -> Any:
    """The network of a checkpoint folder, in evaluation mode, on the CPU.

    `kind` is a key of ops.planners.kinds.KINDS. Raises ArtifactError if the folder holds no
    checkpoint, or one of another kind or format version.
    """
    config, tensors = load_checkpoint(folder, kind)
    config.pop("parameters")
    parts = {name: _config(name, values) for name, values in config.items()}
    model = KINDS[kind].build(parts)
    model.load_state_dict(tensors)
    return model.eval()


def count_parameters(model: nn.Module) -> int:
    """Number of parameters of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def _config(name: str, values: Mapping[str, Any]) -> Any:
    config_class: Any = CONFIG_CLASSES[name]
    return config_class(
        **{
            item.name: _config(item.name, values[item.name])
            if item.name in CONFIG_CLASSES
            else _tuples(values[item.name])
            for item in fields(config_class)
        }
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
