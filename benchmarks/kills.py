"""Runs killed at random moments, and what they leave: `python -m benchmarks.kills`.

A run at scale `smoke` goes to its end undisturbed. Beside it, in another lake, runs are started and
killed at random moments until the chain is complete, and again from an empty lake, until there were
enough kills. After each one every artefact must be intact (`storage.artifact.verify`), and no
process of the run may live. The lakes that were killed must end with the same weights, bit for bit,
as the undisturbed one, and Dagster's history without a run that seems to go on.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage.artifact import verify
from storage.asset_names import ASSET_NAMES, PER_LOG_ASSETS
from storage.lake import Lake

RUN = (sys.executable, "-m", "pipelines.cli", "run", "--scale", "smoke", "--lake")
KINDS = ("SIGKILL of all", "SIGKILL of the main process", "SIGTERM", "SIGINT")
LEFT_AFTER_S = 12.0  # processes of a killed run must be gone by then


@dataclass(slots=True)
class Tally:
    """What came of the kills."""

    kinds: Counter[str] = field(default_factory=Counter)
    at: Counter[str] = field(default_factory=Counter)  # asset that was being made
    faults: list[str] = field(default_factory=list)
    lakes: int = 0  # that were completed

    @property
    def kills(self) -> int:
        """Number of kills."""
        return sum(self.kinds.values())


def artefacts(lake: Lake) -> list[Path]:
    """Every artefact that a reader sees."""
    whole = [lake.asset(name) for name in ASSET_NAMES if name not in PER_LOG_ASSETS]
    logs = [lake.log(name, log) for name in PER_LOG_ASSETS for log in lake.log_ids(name)]
    return [path for path in (*whole, *logs) if path.is_symlink() or path.exists()]


def weights(lake: Lake) -> dict[str, str]:
    """Digests of all trained weights, by their place in the lake."""
    files = [file for path in artefacts(lake) for file in path.rglob("*.safetensors")]
    return {
        str(file.relative_to(lake.root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def start(lake: Path) -> subprocess.Popen[bytes]:
    """A run in a session of its own."""
    with (lake.parent / f"{lake.name}.log").open("ab") as log:
        return subprocess.Popen((*RUN, str(lake)), stdout=log, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen[bytes], kind: str) -> list[str]:
    """Kill a run; what is wrong with what it leaves behind."""
    family = [process.pid, *(child.pid for child in descendants(process.pid))]
    if kind == "SIGKILL of all":
        for pid in family:
            signal_to(pid, signal.SIGKILL)
    else:
        number = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}.get(kind, signal.SIGKILL)
        signal_to(process.pid, number)
    deadline = time.monotonic() + LEFT_AFTER_S
    while time.monotonic() < deadline and (process.poll() is None or alive(family)):
        time.sleep(0.1)
    left = alive(family)
    for pid in left:
        signal_to(pid, signal.SIGKILL)
    process.wait()
    return [f"{len(left)} processes live {LEFT_AFTER_S:.0f} s after {kind}"] if left else []


def descendants(pid: int) -> list[psutil.Process]:
    """Child processes, also of children."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that live; one that only waits to be collected does not."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def signal_to(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def made_now(lake: Path) -> str:
    """The asset that a run has written of last, by its output."""
    lines = (lake.parent / f"{lake.name}.log").read_text(errors="replace").splitlines()
    words = (line.split() for line in reversed(lines))
    names = (found[0].removesuffix("_checks") for found in words if found)
    return next((name for name in names if name in ASSET_NAMES), "start")


def going_on(lake: Lake) -> int:
    """Runs that Dagster's history shows as going on."""
    import dagster as dg

    from pipelines.attempts import UNFINISHED
    from pipelines.history import open_history

    with open_history(lake.root) as instance:
        return instance.get_runs_count(dg.RunsFilter(statuses=UNFINISHED))


def disturbed(folder: Path, tally: Tally, kills: int, longest_s: float, dice: random.Random) -> int:
    """Kill runs in one new lake until it is complete or there were `kills`; kills in it."""
    lake, count = Lake(folder), 0
    while True:
        process = start(folder)
        try:
            enough = tally.kills >= kills
            code = process.wait(None if enough else dice.uniform(1.0, longest_s))
        except subprocess.TimeoutExpired:
            kind = KINDS[tally.kills % len(KINDS)]
            tally.kinds[kind] += 1
            tally.at[made_now(folder)] += 1
            count += 1
            tally.faults += kill(process, kind)
            tally.faults += [
                f"{path.name} after {kind}: {fault}"
                for path in artefacts(lake)
                for fault in verify(path)
            ]
            continue
        if code:
            tally.faults.append(f"a run in {folder} that was not killed ended with {code}")
        return count


def main() -> None:
    """Kill runs, print what came of it, and end with 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an empty folder for the lakes")
    parser.add_argument("--kills", type=int, default=60, metavar="N", help="default: 60")
    parser.add_argument(
        "--longest", type=float, default=25.0, metavar="S", help="until a kill; default: 25 s"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    # as a background job this process ignores SIGINT, and what it starts would too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begin = time.monotonic()
    whole = options.folder / "undisturbed"
    assert start(whole).wait() == 0, f"the undisturbed run failed: {whole}.log"
    print(f"undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
    expected, tally, dice = weights(Lake(whole)), Tally(), random.Random(options.seed)
    while tally.kills < options.kills:
        folder = options.folder / f"killed-{tally.lakes}"
        count = disturbed(folder, tally, options.kills, options.longest, dice)
        tally.lakes += 1
        if weights(Lake(folder)) != expected:
            tally.faults.append(f"{folder}: other weights than the undisturbed run")
        if running := going_on(Lake(folder)):
            tally.faults.append(f"{folder}: {running} runs seem to go on in Dagster's history")
        print(f"{folder.name}: complete after {count} kills", flush=True)
    print(f"kills: {tally.kills}, lakes completed: {tally.lakes}")
    print("by kind: " + ", ".join(f"{kind} {n}" for kind, n in tally.kinds.items()))
    print("while making: " + ", ".join(f"{name} {n}" for name, n in tally.at.items()))
    print(f"faults: {len(tally.faults)}", *tally.faults, sep="\n  ")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
