"""Checkpoints of networks in the Hugging Face layout: `config.json` and `model.safetensors`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.artifact import damaged, read_object, reading, require_intact
from storage.errors import ArtifactError

if TYPE_CHECKING:
    import torch

# bytes of a file that is hashed whenever it is opened; of a larger one its size is compared
LARGEST_HASHED = 1 << 30
FORMAT_VERSION = 5  # increased when a reader of the previous layout cannot read the new one


def save_checkpoint(
    folder: Path, kind: str, config: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor]"
) -> None:
    """Write one network to `folder`.

    `kind` names its class, for example 'planner'; `config` holds what its constructor needs.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(
        json.dumps(
            {"model_type": f"latentvla_{kind}", "format_version": FORMAT_VERSION, **config},
            indent=1,
        )
    )


def load_checkpoint(folder: Path, kind: str) -> "tuple[dict[str, Any], dict[str, torch.Tensor]]":
    """Config and tensors of a network written by save_checkpoint.

    Raises ArtifactError if the folder holds no checkpoint, one of another kind or format version,
    or one that is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with reading(folder) as present:
        file = present / "model.safetensors"
        if not file.exists():
            raise _no_checkpoint(folder)
        config = read_config(present, kind)
        require_intact(file, LARGEST_HASHED)
        try:
            return config, load_file(file)
        except SafetensorError as error:
            raise damaged(file, error) from error


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """The configuration of a checkpoint without its tensors. Raises as load_checkpoint does."""
    with reading(folder) as present:
        require_intact(present / "config.json")
        config = read_object(present / "config.json")
    if config is None:
        raise _no_checkpoint(folder)
    found_kind, found_version = config.pop("model_type", None), config.pop("format_version", None)
    if found_kind != f"latentvla_{kind}":
        raise ArtifactError(
            "this checkpoint is of another kind",
            where=folder,
            expected=f"latentvla_{kind}",
            found=found_kind,
            do=f"give the folder of a checkpoint of kind '{kind}'",
        )
    if found_version != FORMAT_VERSION:
        raise ArtifactError(
            "this checkpoint is of another format version",
            where=folder,
            expected=FORMAT_VERSION,
            found=found_version,
            do="train it again, or install the version that wrote it",
        )
    return config


def _no_checkpoint(folder: Path) -> ArtifactError:
    return ArtifactError(
        "there is no checkpoint here",
        where=folder,
        expected="config.json and model.safetensors",
        do="give the folder of a finished artefact, or make it with: latentvla run",
    )
