"""`latentvla predict`: plan with the student for one image."""

import argparse
import json
from pathlib import Path

from pipelines.commands.target import add_target_arguments, lake_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("image", type=Path, help="image of the front camera")
    parser.add_argument("--speed", type=float, required=True, metavar="V", help="m/s")
    parser.add_argument(
        "--acceleration", type=float, default=0.0, metavar="A", help="m/s2; default: 0"
    )
    parser.add_argument(
        "--command",
        default="straight",
        help="left | straight | right | unknown; default: straight",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="folder of a student; default: the promoted one, or the lake's present one",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Plan with the student for one image; prints eight poses [x m, y m, yaw rad] in the ego frame,
    0.5 s apart.
    """
    from ops.student.predict import predict_file
    from storage.promotion import promoted_student

    lake = lake_of(options)
    plan = predict_file(
        options.model or promoted_student(lake) or lake.asset("student"),
        options.image,
        speed_mps=options.speed,
        acceleration_mps2=options.acceleration,
        command=options.command,
    )
    print(json.dumps([[round(float(value), 3) for value in pose] for pose in plan]))
    return 0
