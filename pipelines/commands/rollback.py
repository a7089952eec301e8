"""`latentvla rollback`: returns to the student that was promoted before."""

import argparse

from pipelines.commands.target import add_target_arguments, lake_of

add_arguments = add_target_arguments


def run(options: argparse.Namespace) -> int:
    """Return to the student that was promoted before the promoted one."""
    from storage.promotion import promoted_student, rollback

    lake = lake_of(options)
    made = rollback(lake)
    print(f"promoted again: student {made.version}, promoted first at {made.since_utc}")
    print(f"its files: {promoted_student(lake)}")
    return 0
