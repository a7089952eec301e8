"""`latentvla config`: print the whole configuration of a scale as JSON."""

import argparse
import json
from dataclasses import asdict

from pipelines.commands.target import add_target_arguments, target_of

add_arguments = add_target_arguments


def run(options: argparse.Namespace) -> int:
    """Print the whole configuration of a scale as JSON."""
    from pipelines.presets import preset

    print(json.dumps(asdict(preset(target_of(options).scale)), indent=2, default=str))
    return 0
