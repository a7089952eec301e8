"""The public Python interface of latentvla.

    from latentvla import Student, Lake, read_dataset
    from latentvla.pdm import prepare, scene_from_tables, score

Names are imported on first use, so that `import latentvla` is fast. The code is in the folders
pipelines, assets, ops, models and storage of a checkout. A wheel contains them inside this package,
so that it adds no other names to site-packages.
"""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

_INSTALLED = Path(__file__).parent / "_packages"
_CODE = str(_INSTALLED if _INSTALLED.exists() else Path(__file__).parents[1])
if _CODE not in sys.path:
    sys.path.insert(0, _CODE)

try:
    __version__ = version("latentvla")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from latentvla import pdm
    from ops.pdm.prepared import prepare
    from ops.pdm.scene.from_tables import scene_from_tables
    from ops.pdm.score import score
    from ops.planners.planner import Planner
    from ops.student.predict import Student
    from pipelines.presets import preset
    from storage.camera import Camera
    from storage.catalogue import query
    from storage.dataset import FrameSet, read_dataset
    from storage.errors import ArtifactError, ConfigError, LatentVLAError, SourceError
    from storage.frame_store import frame_info, read_frames
    from storage.lake import Lake
    from storage.sources import open_source
    from storage.trajectory_table import read_table

_HOME = {  # public name -> module that defines it
    "ArtifactError": "storage.errors",
    "Camera": "storage.camera",
    "ConfigError": "storage.errors",
    "FrameSet": "storage.dataset",
    "Lake": "storage.lake",
    "LatentVLAError": "storage.errors",
    "Planner": "ops.planners.planner",
    "SourceError": "storage.errors",
    "Student": "ops.student.predict",
    "frame_info": "storage.frame_store",
    "open_source": "storage.sources",
    "prepare": "ops.pdm.prepared",
    "preset": "pipelines.presets",
    "query": "storage.catalogue",
    "read_dataset": "storage.dataset",
    "read_frames": "storage.frame_store",
    "read_table": "storage.trajectory_table",
    "scene_from_tables": "ops.pdm.scene.from_tables",
    "score": "ops.pdm.score",
}
__all__ = [
    "ArtifactError",
    "Camera",
    "ConfigError",
    "FrameSet",
    "Lake",
    "LatentVLAError",
    "Planner",
    "SourceError",
    "Student",
    "__version__",
    "frame_info",
    "open_source",
    "pdm",
    "prepare",
    "preset",
    "query",
    "read_dataset",
    "read_frames",
    "read_table",
    "scene_from_tables",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in ("pdm", "devkit"):
        return import_module(f"latentvla.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'latentvla' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
