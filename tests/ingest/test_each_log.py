"""One task per log: a log that fails, crashes or hangs fails alone; what stops all is raised."""

import errno
import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from ops.ingest import each_log as module
from ops.ingest.each_log import LogWork, each_log
from ops.pool import each_apart
from storage.errors import ArtifactError, SourceError


def double(number: int) -> int:
    return 2 * number


def dies(number: int, how: signal.Signals) -> None:
    os.kill(os.getpid(), how)


def dies_the_first_time(number: int, mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        os._exit(3)
    return number


def hangs(number: int) -> None:
    time.sleep(600)


def fails(number: int, error: Exception) -> None:
    raise error


def works_with(**special) -> list[LogWork]:
    """Logs 0 to 5 that return the double of their number, apart from those named."""
    works = {f"log_{number}": partial(double, number) for number in range(6)}
    return [LogWork(log, verb) for log, verb in {**works, **special}.items()]


def test_a_log_that_crashes_or_is_killed_fails_alone_and_the_signal_is_named(tmp_path):
    works = works_with(
        log_1=partial(dies, 1, signal.SIGSEGV),
        log_2=partial(dies_the_first_time, 2, tmp_path / "mark"),
        log_4=partial(dies, 4, signal.SIGKILL),
    )
    outcomes = {outcome.log_id: outcome for outcome in each_log(works, processes=2)}
    assert len(outcomes) == 6
    assert {log: str(item.error) for log, item in outcomes.items() if item.error}.keys() == {
        "log_1",
        "log_4",
    }
    assert "killed by SIGSEGV" in str(outcomes["log_1"].error)
    assert "killed by SIGKILL" in str(outcomes["log_4"].error)
    assert "log log_4" in str(outcomes["log_4"].error)
    assert outcomes["log_0"].result == 0 and outcomes["log_5"].result == 10
    # a worker that the system killed for others' memory costs no log
    assert outcomes["log_2"].result == 2


def test_a_single_log_that_crashes_does_not_end_the_run():
    works = [LogWork("log", partial(dies, 1, signal.SIGSEGV))]
    (outcome,) = each_log(works, processes=2)
    assert "killed by SIGSEGV" in str(outcome.error)


def test_a_log_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(module, "LIMIT_S", 1.0)
    (outcome,) = each_log([LogWork("log", partial(hangs, 3))], processes=2)
    assert "stopped after 1 s" in str(outcome.error)
    assert not multiprocessing.active_children()


DATA_ERRORS = {
    "log_0": UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"),
    "log_1": MemoryError(),
    "log_2": IndexError(3),
    "log_3": SourceError("cut short", where="frame 3"),
}


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_logs_data_raise_is_its_own_error(processes):
    failing = {log: partial(fails, 0, error) for log, error in DATA_ERRORS.items()}
    outcomes = {item.log_id: item for item in each_log(works_with(**failing), processes)}
    assert {log for log, item in outcomes.items() if item.error is not None} == set(DATA_ERRORS)
    for log, error in DATA_ERRORS.items():
        assert f"log {log}" in str(outcomes[log].error)
        assert type(error).__name__ in str(outcomes[log].error) or log == "log_3"
    assert outcomes["log_3"].error.where == "log log_3, frame 3"


FULL = OSError(errno.ENOSPC, "No space left on device", "/lake/x")


@pytest.mark.parametrize(
    ("error", "kind", "words", "processes"),
    [
        (FULL, ArtifactError, "no room left", 1),
        (FULL, ArtifactError, "no room left", 2),
        (OSError("7225344 requested and 380800 written"), ArtifactError, "no room left", 1),
        (PermissionError(errno.EACCES, "denied", "/lake/x"), PermissionError, "/lake/x", 1),
        (PermissionError(errno.EACCES, "denied", "/lake/x"), PermissionError, "/lake/x", 2),
        (ModuleNotFoundError("nuscenes"), ModuleNotFoundError, "nuscenes", 1),
    ],
)
def test_what_would_stop_the_next_log_as_well_is_raised(error, kind, words, processes):
    with pytest.raises(kind, match=words):
        list(each_log([LogWork("log", partial(fails, 0, error))], processes))


def test_every_task_has_one_value_and_workers_end_when_the_caller_stops_asking():
    assert dict(each_apart(double, range(7), 3)) == {number: 2 * number for number in range(7)}
    assert dict(each_apart(double, [], 2)) == {}
    values = each_apart(double, range(50), 1)
    next(values)
    values.close()
    assert not multiprocessing.active_children()
