"""Runs one task per log in several processes; a failed log is returned with its error."""

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
    """The task of one log; `verb` is called without arguments and must be picklable."""

    log_id: str
    verb: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class LogOutcome:
    """The return value of one log's verb, or the SourceError that it raised."""

    log_id: str
    result: Any = None
    error: SourceError | None = None


def each_log(works: Sequence[LogWork], processes: int = 2) -> Iterator[LogOutcome]:
    """Run every task and yield outcomes as they complete.

    Up to two tasks, or one process: in this process. A SourceError becomes the outcome of its log;
    any other error is raised.
    """
    if processes <= 1 or len(works) <= 2:
        yield from map(_run, works)
        return
    with worker_pool(min(processes, len(works))) as pool:
        pending = [pool.submit(_run, work) for work in works]
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
    """Make the artefact `path` of one log with `verb(log, out, config)`, which returns a dataclass.

    The returned record is written to `summary.json` in the artefact. Raises what the reader and the
    verb raise.
    """
    log = open_source(source, raw).open(log_id)
    with write_artifact(path, lineage) as out:
        summary = verb(log, out, config)
        (out / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=1))
    return summary


def read_summary(path: Path) -> dict[str, Any]:
    """The `summary.json` of one log's artefact: the fields of DecodeSummary or ExtractSummary."""
    return json.loads((path / SUMMARY_FILE).read_text())


def _run(work: LogWork) -> LogOutcome:
    try:
        return LogOutcome(work.log_id, work.verb())
    except SourceError as error:
        return LogOutcome(work.log_id, error=error.of_log(work.log_id))
