"""Size of the synthetic world: logs, cameras and rare events of both towns."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """The logs of town A and their cameras."""

    town: str = "A"  # the OpenScene town
    seed: int = 13  # of the town and of every log
    # numbers of logs are not what is in a log: the versions of all its logs are in what is trained
    train_logs: int = field(default=140, metadata={"how": True})
    val_logs: int = field(default=16, metadata={"how": True})
    # half of them in the part of the town that no other split enters
    test_logs: int = field(default=32, metadata={"how": True})
    seconds: float = 20.0  # length of a log
    hz: float = 2.0  # frames a second; 10 must be a multiple of it
    # rendered cameras, the front camera first; CAM_L0 faces left, CAM_R0 right
    cameras: tuple[str, ...] = ("CAM_F0",)
    image_width: int = 224  # pixels, of every camera
    image_height: int = 126
    event_rate: float = 0.6  # share of logs with a rare event; must be 0 for logs shorter than 11 s


@dataclass(frozen=True, slots=True)
class TownBConfig:
    """The scenes of town B and their camera."""

    seed: int = 23  # of the town and of every scene
    blocks: int = 3  # of the street grid, in each direction
    scenes: int = 8
    seconds: float = 20.0  # length of a scene
    event_rate: float = 0.5  # share of scenes with a rare event
    image_width: int = 256  # pixels
    image_height: int = 144
    focal_share: float = 0.76  # focal length over image width; town A: 0.60
    # in the ego frame; town A: 1.58 m high
    camera_m: tuple[float, float, float] = (1.72, 0.0, 1.90)
    pitch_rad: float = 0.03  # downwards; town A: 0.045
