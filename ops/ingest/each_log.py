"""Runs one task per log in several processes; a failed log is returned with its error."""

import json
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.pool import WorkerDied, each_apart
from storage.artifact import Lineage, write_artifact
from storage.errors import LatentVLAError, SourceError, full_disk
from storage.sources import open_source
from storage.sources.raw_files import REPAIR

SUMMARY_FILE = "summary.json"
LIMIT_S = 7200.0  # of one log in a worker; the longest take minutes


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

    In up to `processes` workers, so that a log that crashes its worker, or takes longer than
    LIMIT_S, fails alone; with one process in this one. What a log's data make the verb raise
    becomes a SourceError, the outcome of its log. What would stop the next log as well is raised:
    OSError where the lake is written, ArtifactError for a full disk, ImportError, ConfigError,
    assertions.
    """
    if processes <= 1 or not works:
        yield from map(_run, works)
        return
    workers = processes if len(works) > 2 else 1  # starting one takes longer than a short log
    for index, outcome in each_apart(_run_apart, works, workers, LIMIT_S):
        if isinstance(outcome, _Raised):
            raise outcome.error
        log_id = works[index].log_id
        dead = isinstance(outcome, WorkerDied)
        yield LogOutcome(log_id, error=_died(log_id, outcome)) if dead else outcome


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


@dataclass(frozen=True, slots=True)
class _Raised:
    """An error of a worker that is no log's own."""

    error: Exception


def _run(work: LogWork) -> LogOutcome:
    try:
        return LogOutcome(work.log_id, work.verb())
    except SourceError as error:
        return LogOutcome(work.log_id, error=error.of_log(work.log_id))
    except Exception as error:
        full = full_disk(error)
        if full is not None:
            raise full from error
        if _is_of_the_data(error):
            return LogOutcome(work.log_id, error=_unexpected(work.log_id, error))
        raise


def _run_apart(work: LogWork) -> LogOutcome | _Raised:
    try:
        return _run(work)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return _Raised(RuntimeError("".join(traceback.format_exception(error))))
        return _Raised(error)


def _is_of_the_data(error: Exception) -> bool:
    """True for what values of a log can make our code or a library raise; a lake that cannot be
    written, a missing package and a failed assertion would stop the next log as well.
    """
    return not isinstance(error, (OSError, ImportError, AssertionError, LatentVLAError))


def _unexpected(log_id: str, error: Exception) -> SourceError:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename][-1]
    return SourceError(
        "a log holds values that cannot be stored",
        where=f"log {log_id}, {ours.name} in {Path(ours.filename).name}, line {ours.lineno}",
        expected="text that is Unicode, finite geometry, columns of one length",
        found=f"{type(error).__name__}: {error}",
        do=REPAIR,
    )


def _died(log_id: str, died: WorkerDied) -> SourceError:
    return SourceError(
        "reading this log ended its process",
        where=f"log {log_id}",
        expected="a log that can be read or is refused",
        found=died.how,
        do="correct or leave out this log; SIGKILL often means that memory ran out",
    )
