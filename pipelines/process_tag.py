"""Names the process of a run in a tag, so that another process can tell later whether it still
lives.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

from storage.writers import Writer, this_writer

PROCESS_TAG = "latentvla/process"  # tag of a Dagster run
PIDS = range(1, 1 << 31)


def process_tags(run_id: str, process: Writer | None = None) -> dict[str, str]:
    """The tag of a run that a process executes, by default this one; empty on a system that does
    not tell its boot, where a process of an earlier one could not be told apart.
    """
    process = process or this_writer()
    return {PROCESS_TAG: json.dumps({"run": run_id, **asdict(process)})} if process.boot else {}


def process_of(run_id: str, tags: Mapping[str, str]) -> Writer | None:
    """The process that the tags of a run name; None if they name none, or that of another run:
    Dagster copies tags when a run is executed again.
    """
    try:
        values = json.loads(tags.get(PROCESS_TAG, ""))
        if values.pop("run") != run_id:
            return None
        process = Writer(**values)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    texts = (process.host, process.boot, process.namespace)
    numbers = (process.pid, process.started)
    sound = all(isinstance(text, str) for text in texts)
    sound = sound and all(isinstance(number, int) for number in numbers)
    return process if sound and process.pid in PIDS else None
