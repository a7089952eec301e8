"""One piece of work for each of many logs, in a few processes; a log that fails is returned with
its error.

Not the work itself and not the decision what to do with a failure.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.pool import worker_pool
from storage.artifact import Lineage, write_artifact
from storage.errors import SourceError
from storage.sources import open_source

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class LogWork:
    """What is to be done for one log; `verb` is called without arguments and must be picklable."""

    log_id: str
    verb: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class LogOutcome:
    """What came of it: `result` is what the verb returned, or None with the `error` that the log
    raised.
    """

    log_id: str
    result: Any = None
    error: SourceError | None = None


def each_log(works: Sequence[LogWork], processes: int = 2) -> Iterator[LogOutcome]:
    """Do every piece of work and yield outcomes as they come; with few logs or one process, in this
    process.

    A SourceError belongs to its log and names it; any other error is a mistake of ours and is
    raised.
    """
    if processes <= 1 or len(works) <= 2:
        yield from map(_do, works)
        return
    with worker_pool(min(processes, len(works))) as pool:
        pending = [pool.submit(_do, work) for work in works]
        try:
            for future in as_completed(pending):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def make_from_raw_log(
    verb: Callable[[Any, Path, Any], Any],
    source: str,
    raw: Path,
    log_id: str,
    config: Any,
    path: Path,
    lineage: Lineage,
) -> Any:
    """Make the artefact `path` of one log with `verb(log, out, config)`; the record it returns is
    kept in it.
    """
    log = open_source(source, raw).open(log_id)
    with write_artifact(path, lineage) as out:
        summary = verb(log, out, config)
        (out / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=1))
    return summary


def read_summary(path: Path) -> dict[str, Any]:
    """The record that the verb returned when this log's artefact was made."""
    return json.loads((path / SUMMARY_FILE).read_text())


def _do(work: LogWork) -> LogOutcome:
    try:
        return LogOutcome(work.log_id, work.verb())
    except SourceError as error:
        return LogOutcome(work.log_id, error=error.of_log(work.log_id))
