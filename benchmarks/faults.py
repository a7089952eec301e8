"""Faults of the machine and of people, tried and survived: `python -m benchmarks.faults`.

A run at scale `smoke` goes to its end undisturbed. Beside it, in another lake, runs meet one fault
after the other at random moments until the chain is complete, and again from an empty lake, until
each kind of fault was tried as often as asked for. A fault is survived if what fails says what to
do and shows no traceback, no artefact is half written or damaged (`storage.artifact.verify`), and
the runs after it go on: a lake that is complete must have the weights of the undisturbed run, bit
for bit, and a history without a run that seems to go on.

The disturbed lakes lie on a small file system in memory, which is filled and made read-only; where
it may not be mounted (it needs the rights of root), files may not grow beyond a limit instead, and
the lake is closed by its permissions. As root the runs are started without the right to pass over
permissions (`setpriv`).
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kills import RUN, artefacts, going_on, signal_to, weights
from storage.artifact import verify
from storage.lake import Lake
from storage.locks import users_of_lake

CLI = RUN[:3]
MEGABYTES = 600  # of the file system
ENDS_WITHIN_S = 240.0
DAYS_S = 86400.0
LOG = "A-train-0000"
AS_ANYBODY = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
BUSY = "another run is using this lake"


@dataclass(slots=True)
class Tally:
    """What came of the faults."""

    tried: Counter[str] = field(default_factory=Counter)
    without_effect: Counter[str] = field(default_factory=Counter)  # the run had ended, or had none
    failures: list[str] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)  # failures
    lakes: int = 0  # that were completed


@dataclass(slots=True)
class Place:
    """The lake that is disturbed, and the file system below it."""

    disk: Path
    mounted: bool
    dice: random.Random
    lake: Path = field(init=False)
    number: int = 0

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """An empty lake under a new name."""
        for item in self.disk.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        self.move()

    def move(self) -> Path:
        """Another name for the lake; the new one."""
        self.number += 1
        self.lake = self.disk / f"lake-{self.number}"
        return self.lake


@dataclass(slots=True)
class Outcome:
    """How a command ended."""

    code: int
    text: str

    @property
    def is_clear(self) -> bool:
        """True for success, and for an error that says what to do."""
        done = self.code == 0 or "what to do" in self.text or "stopped; the same" in self.text
        return done and "Traceback (most recent" not in self.text


def command(place: Place, *words: str) -> list[str]:
    """A command line on the lake, without the right to pass over permissions."""
    apart = AS_ANYBODY if os.geteuid() == 0 and shutil.which(AS_ANYBODY[0]) else ()
    return [*apart, *CLI, *words[:1], "--scale", "smoke", "--lake", str(place.lake), *words[1:]]


def call(place: Place, *words: str, largest: int | None = None) -> Outcome:
    """One command to its end; `largest`: bytes beyond which it cannot write a file."""
    with begun(place, *words, largest=largest) as process:
        return ended(process)


@contextlib.contextmanager
def begun(
    place: Place, *words: str, largest: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on."""

    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    process = subprocess.Popen(
        command(place, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ended(process: "subprocess.Popen[str]") -> Outcome:
    """The outcome of a command that ends by itself in time."""
    try:
        text, _ = process.communicate(timeout=ENDS_WITHIN_S)
        return Outcome(process.returncode, text)
    except subprocess.TimeoutExpired:
        return Outcome(-1, f"it has not ended after {ENDS_WITHIN_S:.0f} s")


def stopped(process: "subprocess.Popen[str]") -> Outcome:
    """The outcome of a run that is asked to stop."""
    signal_to(process.pid, signal.SIGTERM)
    return ended(process)


def wait(process: "subprocess.Popen[str]", seconds: float) -> bool:
    """Let a command go on; True if it still does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    return process.poll() is None


# A fault is tried from `Place` and a random moment in seconds. It returns what is wrong with how
# the product answered ("" is survived), or None if the fault had no effect.
Fault = Callable[[Place, float], str | None]


def full_disk(place: Place, moment_s: float) -> str | None:
    """The disk is filled while a run goes on."""
    if not place.mounted:
        found = call(place, "run", largest=int(place.dice.uniform(2e4, 2e6)))
        return None if found.code == 0 else fault_of(found, "room")
    filler = place.disk / "filler"
    with begun(place, "run") as process:
        if not wait(process, moment_s):
            return None
        with filler.open("wb") as stream, contextlib.suppress(OSError):
            free = shutil.disk_usage(place.disk).free
            os.posix_fallocate(stream.fileno(), 0, max(free, 1))
        with filler.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(b"x" * 4096):
                pass
        found = ended(process)
    status = call(place, "status")
    filler.unlink()
    if status.code:
        return f"status on a full disk: {status.text[-300:]}"
    return None if found.code == 0 else fault_of(found, "room")


def read_only(place: Place, moment_s: float) -> str | None:
    """Verbs on a lake that cannot be written; looking at it must work."""
    del moment_s
    place.lake.mkdir(exist_ok=True)
    with closed(place):
        for words in (("run",), ("gc",), ("promote",), ("quarantine", LOG, "--why", "x")):
            found = call(place, *words)
            if found.code == 0 and words == ("run",) and "nothing to do" in found.text:
                continue
            if fault := fault_of(found, "what to do"):
                return f"{words[0]}: {fault}"
        for words in (("status",), ("logs",), ("doctor", "--no-files", "--fail-on", "never")):
            found = call(place, *words)
            if found.code or not found.is_clear:
                return f"{words[0]}: {found.text[-300:]}"
    return ""


@contextlib.contextmanager
def closed(place: Place) -> Iterator[None]:
    """The lake cannot be written."""
    if place.mounted:
        subprocess.run(("mount", "-o", "remount,ro", place.disk), check=True)
    else:
        place.lake.chmod(0o500)
    try:
        yield
    finally:
        if place.mounted:
            subprocess.run(("mount", "-o", "remount,rw", place.disk), check=True)
        else:
            place.lake.chmod(0o755)


def denied(place: Place, moment_s: float) -> str | None:
    """A folder of the lake can no longer be written, or a file no longer be read."""
    with begun(place, "run") as process:
        if not wait(process, moment_s):
            return None
        kinds = (Path.is_dir, Path.is_file)
        chosen = [
            item
            for item in place.lake.rglob("*")
            if place.dice.choice(kinds)(item) and not item.is_symlink()
        ]
        target = place.dice.choice(chosen) if chosen else place.lake
        try:
            mode = target.stat().st_mode
            target.chmod(0o500 if target.is_dir() else 0)
        except FileNotFoundError:  # the run has not made or has just removed it
            return None
        found = ended(process)
    if target.exists():
        target.chmod(mode)
    return None if found.code == 0 else fault_of(found, "what to do")


def second_run(place: Place, moment_s: float) -> str | None:
    """A second run on the same lake."""
    return beside_a_run(place, moment_s, ("run",), refused=True)


def second_verb(place: Place, moment_s: float) -> str | None:
    """A verb that writes while a run goes on."""
    verbs = (("gc",), ("forget", LOG), ("promote",), ("rollback",))
    return beside_a_run(place, moment_s, place.dice.choice(verbs), refused=True)


def set_aside(place: Place, moment_s: float) -> str | None:
    """A log is set aside while a run goes on, and released after it."""
    fault = beside_a_run(place, moment_s, ("quarantine", LOG, "--why", "x"), refused=False)
    if fault == "":
        found = call(place, "release", LOG)
        return "" if found.code == 0 else f"release: {found.text[-300:]}"
    return fault


def beside_a_run(
    place: Place, moment_s: float, words: tuple[str, ...], *, refused: bool
) -> str | None:
    """What is wrong with a command beside a run: it must be refused, or do its work and say that a
    run goes on; the run itself must not be disturbed.
    """
    with begun(place, "run") as process:
        end = time.monotonic() + moment_s
        while wait(process, 0.2) and (time.monotonic() < end or not users_of_lake(place.lake)):
            pass
        found = call(place, *words)
        if process.poll() is not None:
            return None
        going_on = wait(process, place.dice.uniform(0.0, 8.0))
        first = stopped(process) if going_on else ended(process)
    if refused and not (found.code == 2 and BUSY in found.text):
        return f"{words[0]} ended with {found.code}: {found.text[-300:]}"
    if not refused and not (found.code == 0 and "in use" in found.text):
        return f"{words[0]} ended with {found.code}: {found.text[-300:]}"
    disturbed = first.code not in ((0,) if not going_on else (0, 143)) or not first.is_clear
    return f"the run beside {words[0]}: {first.text[-500:]}" if disturbed else ""


def clock_set(place: Place, moment_s: float) -> str | None:
    """A run is stopped, the clock is set, so that every file is dated in the future or the past,
    and the next run goes on.
    """
    if (fault := advanced(place, moment_s)) != "":
        return fault
    shift_s = place.dice.choice((-400.0, 400.0)) * DAYS_S
    for item in place.lake.rglob("*"):
        if not item.is_symlink():
            at = item.stat().st_mtime + shift_s
            os.utime(item, (at, at))
    return advanced(place, moment_s) or ""


def moved(place: Place, moment_s: float) -> str | None:
    """A run is stopped, the lake is renamed or copied, with its links or followed, and the next run
    goes on there.
    """
    if (fault := advanced(place, moment_s)) != "":
        return fault
    before, how = place.lake, place.dice.choice(("rename", "copy", "copy that follows links"))
    if how == "rename":
        before.rename(place.move())
    else:
        links = how == "copy"
        shutil.copytree(before, place.move(), symlinks=links, ignore_dangling_symlinks=True)
        shutil.rmtree(before)
    return advanced(place, moment_s) or ""


def foreign_lock(place: Place, moment_s: float) -> str | None:
    """A lock of another host, or of this one before a restart, was left in the lake, and its
    unfinished folder too.
    """
    from storage.writers import this_writer

    if (fault := advanced(place, moment_s)) != "":
        return fault
    me = this_writer()
    words = {"host": "elsewhere"} if place.dice.random() < 0.5 else {"boot": "0" * len(me.boot)}
    other = type(me)(**{name: getattr(me, name) for name in me.__slots__} | words | {"pid": 1})
    line = f'{{"writer": {json_of(other)}, "alone": true, "since_utc": "2020-01-01"}}\n'
    (place.lake / ".lock").write_text(line)
    (place.lake / ".versions" / "student" / f"{'0' * 16}.part-{other.tag}").mkdir(
        parents=True, exist_ok=True
    )
    return advanced(place, moment_s) or ""


def json_of(item: object) -> str:
    """A dataclass as JSON."""
    import json
    from dataclasses import asdict

    return json.dumps(asdict(item))  # type: ignore[call-overload]


def advanced(place: Place, moment_s: float) -> str | None:
    """Let a run go on until a moment and stop it; what is wrong with how it ended. None if there
    was nothing to do.
    """
    with begun(place, "run") as process:
        going_on = wait(process, moment_s)
        found = stopped(process) if going_on else ended(process)
    if "nothing to do" in found.text:
        return None
    ok = found.code in ((0, 143) if going_on else (0,)) and found.is_clear
    return "" if ok else f"a run ended with {found.code}: {found.text[-500:]}"


def fault_of(found: Outcome, word: str) -> str:
    """What is wrong with an error: it must be told clearly, with this word."""
    if found.code in (1, 2) and found.is_clear and word in found.text:
        return ""
    return f"ended with {found.code}: {found.text[-600:]}"


FAULTS: dict[str, Fault] = {
    "full disk": full_disk,
    "read-only lake": read_only,
    "permission denied": denied,
    "two runs at once": second_run,
    "run and gc, forget, promote or rollback": second_verb,
    "run and quarantine, release": set_aside,
    "clock set": clock_set,
    "lake moved or copied": moved,
    "lock of another host or boot": foreign_lock,
}


def try_one(kind: str, place: Place, tally: Tally, longest_s: float) -> None:
    """One fault, and what it leaves."""
    found = FAULTS[kind](place, place.dice.uniform(1.0, longest_s))
    if found is None:
        tally.without_effect[kind] += 1
        return
    tally.tried[kind] += 1
    lake = Lake(place.lake)
    faults = [found] if found else []
    faults += [f"{path.name}: {fault}" for path in artefacts(lake) for fault in verify(path)]
    tally.by_kind[kind] += bool(faults)
    tally.failures += [f"{kind}: {fault}" for fault in faults]
    print(f"{kind}: {faults or 'survived'}", flush=True)


def complete(place: Place, tally: Tally, expected: dict[str, str]) -> None:
    """Run a lake to its end and compare its weights with those of the undisturbed run."""
    found, lake = call(place, "run"), Lake(place.lake)
    if found.code:
        tally.failures.append(f"the last run ended with {found.code}: {found.text[-600:]}")
    elif (made := weights(lake)) != expected:
        other = sorted(name for name in {*made, *expected} if made.get(name) != expected.get(name))
        tally.failures.append(f"{place.lake.name}: other weights in {', '.join(other)}")
    if running := going_on(lake):
        tally.failures.append(f"{place.lake.name}: {running} runs seem to go on in the history")
    tally.lakes += 1
    print(f"{place.lake.name}: complete; faults so far: {len(tally.failures)}", flush=True)


def is_complete(lake: Path) -> bool:
    """True if the report is made, the last asset."""
    return (lake / "report").exists()


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """A small file system in memory at `folder`; False where it may not be mounted."""
    folder.mkdir(parents=True)
    words = ("mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", folder)
    mounted = not subprocess.run(words, check=False, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(("umount", folder), check=True)


def table(tally: Tally) -> str:
    """One line a kind of fault."""
    width = max(map(len, FAULTS))
    lines = [f"{'fault':<{width}}  tried  survived  without effect"]
    for kind in FAULTS:
        tried = tally.tried[kind]
        survived = tried - tally.by_kind[kind]
        lines.append(
            f"{kind:<{width}}  {tried:5d}  {survived:8d}  {tally.without_effect[kind]:14d}"
        )
    tried = tally.tried.total()
    lines.append(f"{'all':<{width}}  {tried:5d}  {tried - tally.by_kind.total():8d}")
    return "\n".join(lines)


def main() -> None:
    """Try faults, print the table, and end with 1 if one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an empty folder for the lakes")
    parser.add_argument("--each", type=int, default=5, metavar="N", help="of a kind; default: 5")
    parser.add_argument("--only", choices=[*FAULTS], action="append", help="kinds; default: all")
    parser.add_argument(
        "--longest", type=float, default=25.0, metavar="S", help="until a fault; default: 25 s"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    options = parser.parse_args()
    begin, tally, kinds = time.monotonic(), Tally(), options.only or [*FAULTS]
    with disk(options.folder / "disk") as mounted:
        print("disk: a file system in memory" if mounted else "disk: limits and permissions")
        place = Place(options.folder / "disk", mounted, random.Random(options.seed))
        whole = call(place, "run")
        assert whole.code == 0, f"the undisturbed run failed: {whole.text}"
        expected = weights(Lake(place.lake))
        print(f"undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
        place.renew()
        while open_kinds := [kind for kind in kinds if tally.tried[kind] < options.each]:
            for kind in open_kinds:
                if is_complete(place.lake):
                    complete(place, tally, expected)
                    place.renew()
                try_one(kind, place, tally, options.longest)
        complete(place, tally, expected)
    print(f"\n{table(tally)}\nlakes completed: {tally.lakes}, {time.monotonic() - begin:.0f} s")
    print(f"faults: {len(tally.failures)}", *tally.failures, sep="\n  ")
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
