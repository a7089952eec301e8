"""`latentvla logs`: list the logs of the pipeline."""

import argparse

from pipelines.commands.status import logs_text
from pipelines.commands.target import add_target_arguments, pipeline_of

add_arguments = add_target_arguments


def run(options: argparse.Namespace) -> int:
    """List the logs of the pipeline: split, size, and the last asset that is made of each."""
    print(logs_text(pipeline_of(options)))
    return 0
