"""The ledger of a lake: which logs it has to work with, and one state for each artefact.

A snapshot of the raw folder, the quarantine and the lake's artefacts. Every file is read at most
once, and only when it is asked for. `latentvla status` and `run`, the sensors and the assets all
decide by it. Needs no Dagster.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from assets.chain.asset_specs import ASSET_SPECS, code_version
from assets.chain.code_version import code_version_of_modules, rules_version
from assets.chain.pipeline import Pipeline, RawLogs
from assets.chain.preset import config_of
from ops.ablation.tables_version import ablation_tables_version
from ops.ingest.inventory import Inventory, read_inventory
from ops.ingest.quarantine import BY_HAND, QuarantineRecord, quarantine, quarantined
from storage.artifact import (
    CHECKS_FILE,
    Lineage,
    digest,
    planned_lineage,
    read_lineage,
    read_object,
)
from storage.asset_names import INGEST_ASSETS, PER_LOG_ASSETS
from storage.errors import ArtifactError, LatentVLAError, SourceError
from storage.versions import counted, version_of_counted

# Fields of WorldConfig that decide how many logs there are, not what is in a log.
WORLD_COUNTS = ("train_logs", "val_logs", "test_logs")
UNREADABLE = "a raw file cannot be read"  # storage.sources.raw_files.unreadable begins so
SHOWN = 3  # quarantined logs that an error names
# what a reader of a damaged file of the lake may raise
DAMAGE = (LatentVLAError, OSError, ValueError, TypeError, KeyError, AttributeError)


class State(StrEnum):
    """What an artefact is; the first that applies, in this order."""

    QUARANTINED = "quarantined"  # its log is set aside
    MISSING = "missing"  # there is none, or its lineage cannot be read
    STALE = "stale"  # made from other inputs, with another configuration or other code
    UNCHECKED = "unchecked"  # its blocking checks have not run, or others have
    FAILED = "failed"  # a blocking check failed
    CURRENT = "current"


class Ledger:
    """What a pipeline's lake holds now, and what it should hold."""

    def __init__(self, pipeline: Pipeline, *, as_made: bool = False) -> None:
        """`as_made`: artefacts of training are planned from the inputs that lie in the lake, which
        is what a training reads; otherwise from those that the raw logs and the code ask for now.

        Raises ConfigError as RawLogs does.
        """
        self.pipeline, self.lake, self.as_made = pipeline, pipeline.lake, as_made
        self.logs = RawLogs(pipeline)
        self.damaged: dict[Path, str] = {}  # file or artefact that cannot be read -> error
        self._made: dict[str, str] = {}  # artefact -> its version; "": there is none
        self._checks: dict[str, dict[str, bool]] = {}
        self._planned: dict[str, str] = {}  # artefact -> the version that it should have
        self._inventories: dict[str, Inventory | None] = {}
        self._fingerprints: dict[str, str] = {}
        self._states: dict[str, State] = {}  # artefact -> its state, whatever it was made from
        self._configs: dict[str, Any] = {}  # ingest asset -> what counts of its configuration
        self._folders: dict[str, Path] = {}  # asset -> its folder, in which those of its logs lie
        self._rules: dict[str, str] = {}  # asset -> its rules_key
        self._quarantine_stamp = 0  # when the quarantine was changed last, as it was read

    # Logs

    @cached_property
    def log_ids(self) -> list[str]:
        """Every log of the pipeline now, also those that cannot be read, sorted."""
        return sorted({*self.logs.ids, *self.refused})

    @cached_property
    def log_ids_set(self) -> frozenset[str]:
        """The same, to look a log up."""
        return frozenset(self.log_ids)

    @cached_property
    def refused(self) -> dict[str, SourceError]:
        """Logs whose files in the raw folder cannot be listed or read, with the error."""
        refused = self.logs.refused
        if not self.as_made:
            for log in self.logs.ids:
                if log not in self.logs.splits_of_world:
                    try:
                        self.fingerprint(log)
                    except SourceError as error:
                        refused[log] = error.of_log(log)
        return refused

    @cached_property
    def records(self) -> dict[str, QuarantineRecord]:
        """Every record in the lake's quarantine, also those that no longer hold."""
        self._quarantine_stamp = _changed_at(self.lake.quarantine)
        return quarantined(self.lake)

    def reread_quarantine(self) -> bool:
        """Read the quarantine again if it has changed since; True if so. During a run a person may
        set a log aside or release it.
        """
        if self._quarantine_stamp == _changed_at(self.lake.quarantine):
            return False
        self._forget_plans()
        return True

    @cached_property
    def quarantined(self) -> dict[str, QuarantineRecord]:
        """The logs that are set aside, with the reason: by hand, because their files cannot be
        read, or because they failed with the same bytes, configuration and code.
        """
        held = {
            log: QuarantineRecord(log, "raw_logs", str(error), digest(str(error)), "")
            for log, error in self.refused.items()
        }
        for log in set(self.logs.ids) & set(self.records):
            record = self.records[log]
            if record.fingerprint == BY_HAND or (log not in held and self._would_fail(record)):
                held[log] = record
        return dict(sorted(held.items()))

    @cached_property
    def usable(self) -> list[str]:
        """Logs that training and evaluation may read, sorted: in the raw folder now, ingested from
        where they lie, checked, and not in quarantine.
        """
        return [
            log for log in self.log_ids if log not in self.quarantined and self._is_ingested(log)
        ]

    @property
    def none_left(self) -> bool:
        """True if there are logs, and each of them is quarantined."""
        return bool(self.log_ids) and len(self.quarantined) == len(self.log_ids)

    def require_logs(self) -> None:
        """Raise ArtifactError, with the reason, if there is no usable log."""
        if not self.usable:
            raise self.no_log_error()

    def logs_of(self, asset: str) -> list[str]:
        """The usable logs of the splits that an asset reads. Raises ArtifactError if there is
        none.
        """
        self.require_logs()
        splits = ASSET_SPECS[asset].splits
        chosen = [log for log in self.usable if self._inventory_of(log).split in splits]
        if not chosen:
            raise ArtifactError(
                f"'{asset}' needs logs of split {' or '.join(splits)}, and there is none",
                where=self.pipeline.raw_folder,
                found=f"{len(self.usable)} usable logs of other splits",
                do="add such logs to the raw folder: latentvla logs lists what is there",
            )
        return chosen

    def inventory(self, log: str) -> Inventory | None:
        """The inventory of a log, or None if there is none that can be read."""
        if log not in self._inventories:
            try:
                self._inventories[log] = read_inventory(self.lake.log("raw_logs", log))
            except DAMAGE:
                self._inventories[log] = None
        return self._inventories[log]

    def fingerprint(self, log: str) -> str:
        """Fingerprint of a log's bytes as they are now. Raises SourceError for an unreadable
        file.
        """
        if log not in self._fingerprints:
            self._fingerprints[log] = self.logs.fingerprint(log, self.inventory(log))
        return self._fingerprints[log]

    def failure_keys(self, asset: str, log: str) -> tuple[str, ...]:
        """What a quarantine record holds as fingerprint if this asset of the log fails as it is
        now: when it is made, and when it is checked.
        """
        version = self.version(asset, log)
        return version, f"{version}+{rules_version(asset, rule_limits(self.pipeline, asset))}"

    # Artefacts

    def lineage(self, asset: str, log: str | None = None) -> Lineage:
        """The lineage that an artefact should have, of one log or of all.

        Raises ArtifactError if there is no log, or with `as_made` an input is missing.
        """
        name = asset if log is None else f"{asset}/{log}"
        seed = self.pipeline.preset.seed if ASSET_SPECS[asset].seeded else None
        if asset == "raw_logs":
            assert log is not None
            return self._lineage_of_raw_log(name, log)
        parents = self._parents_of_log(asset, log) if log is not None else self._parents(asset)
        config = config_of(self.pipeline.preset, asset)
        return planned_lineage(name, parents, config, code_version(asset), seed)

    def parents_by_log(self, asset: str) -> dict[str, str]:
        """Artefacts of single logs that an asset for all logs is made of -> their version.

        Raises as lineage().
        """
        deps = [dep for dep in ASSET_SPECS[asset].deps if dep in PER_LOG_ASSETS]
        # the version of a log's trajectories covers that of its frames
        deps = [dep for dep in deps if dep != "frames"]
        logs = self.logs_of(asset) if deps else []
        return dict(self._input(dep, log) for dep in deps for log in logs)

    def version(self, asset: str, log: str | None = None) -> str:
        """The version that an artefact should have. Raises what lineage() raises."""
        name = asset if log is None else f"{asset}/{log}"
        if name not in self._planned:
            of_a_log = log is not None and asset in INGEST_ASSETS and asset != "raw_logs"
            self._planned[name] = (
                self._version_of_log(asset, name, log)
                if of_a_log and log is not None
                else self.lineage(asset, log).version
            )
        return self._planned[name]

    def state(self, asset: str, log: str | None = None) -> State:
        """The state of an artefact, of one log or of all."""
        if log is not None and log in self.quarantined:
            return State.QUARANTINED
        state = self._state_of_made(asset, log)
        if state is State.MISSING:
            return state
        try:
            current = self.made(asset, log) == self.version(asset, log)
        except ArtifactError:  # an input is missing
            return State.MISSING
        if asset == "raw_logs" and log is not None and log in self.logs.splits_of_world:
            current = current and self.is_intact(log)
        return state if current else State.STALE

    def states(self, asset: str) -> Counter[State]:
        """How many logs are in which state in an asset with one artefact a log."""
        log_ids = self.log_ids if asset in INGEST_ASSETS else self.usable
        return Counter(self.state(asset, log) for log in log_ids)

    def is_current(self, asset: str) -> bool:
        """True if nothing is to be made or checked for an asset, over all its logs."""
        if asset in PER_LOG_ASSETS:
            return not set(self.states(asset)) - {State.CURRENT, State.QUARANTINED}
        return self.state(asset) is State.CURRENT

    def todo(self, assets: Iterable[str] = INGEST_ASSETS) -> list[str]:
        """Logs for which one of these assets has to be made or checked."""
        done = (State.CURRENT, State.QUARANTINED)
        assets = tuple(assets)
        return [
            log
            for log in self.log_ids
            if any(self.state(asset, log) not in done for asset in assets)
        ]

    def made(self, asset: str, log: str | None = None) -> str:
        """The version of the artefact in the lake; "" if there is none that can be read."""
        name = asset if log is None else f"{asset}/{log}"
        if name not in self._made:
            path = self._path(asset, log)
            try:
                self._made[name] = read_lineage(path).version if os.path.exists(path) else ""
            except DAMAGE as error:
                self.damaged[path] = str(error).splitlines()[0]
                self._made[name] = ""
        return self._made[name]

    def is_intact(self, log: str) -> bool:
        """True if the log's files are those of its inventory and lie in the same split."""
        inventory = self.inventory(log)
        if inventory is None or log not in self.logs.refs:
            return False
        try:
            same = self.fingerprint(log) == inventory.fingerprint
        except SourceError:
            return False
        return same and self.logs.refs[log].split == inventory.split

    def require_inputs(self, asset: str) -> None:
        """Raise ArtifactError if an input of a training asset is missing, was not checked, or
        failed a blocking check. Ingested logs are usable only if they passed theirs.
        """
        for dep in ASSET_SPECS[asset].deps:
            if dep in INGEST_ASSETS:
                continue
            logs: Sequence[str | None] = self.logs_of(asset) if dep in PER_LOG_ASSETS else [None]
            for log in logs:
                state = self._state_of_made(dep, log)
                if state is not State.CURRENT:
                    raise self._input_error(dep, log, state)

    def require_current(self, *assets: str) -> None:
        """Raise ArtifactError unless these assets are current."""
        self.require_logs()
        for asset in assets:
            if not self.is_current(asset):
                raise ArtifactError(
                    f"'{asset}' is not current",
                    where=self.lake.asset(asset),
                    expected="made from the present logs, configuration and code, and checked",
                    do=f"make it: latentvla run --scale {self.pipeline.scale} --until {asset}",
                )

    def changed(self, asset: str, log_ids: Iterable[str] | None = None) -> None:
        """Read an asset's artefacts again: they were made, checked or set aside since."""
        for log in [None] if log_ids is None else log_ids:
            name = asset if log is None else f"{asset}/{log}"
            self._made.pop(name, None)
            self._checks.pop(name, None)
            self._states.pop(name, None)
            if asset == "raw_logs" and log is not None:
                self._inventories.pop(log, None)
        self._forget_plans()

    def rewritten(self, log_ids: Iterable[str]) -> None:
        """List the raw folder again: the raw files of these logs were written."""
        self.logs.forget_refs()
        log_ids = list(log_ids)
        for log in log_ids:
            self._fingerprints.pop(log, None)
        self.changed("raw_logs", log_ids)

    def keep_refusals(self) -> None:
        """Put the logs that cannot be listed or read into the lake's quarantine, where every page
        finds them.
        """
        for log, error in self.refused.items():
            if log not in self.records or self.records[log].reason != str(error):
                if log in self.records and self.records[log].fingerprint == BY_HAND:
                    continue
                quarantine(self.lake, log, "raw_logs", error, digest(str(error)))
        self.__dict__.pop("records", None)

    def new_logs_since_codebook(self) -> list[str] | None:
        """Usable logs that the codebook was not trained on; None if there is no codebook."""
        if not self.made("codebook"):
            return None
        trained_on = read_lineage(self.lake.asset("codebook")).parents
        return [log for log in self.logs_of("codebook") if f"trajectories/{log}" not in trained_on]

    # Inside

    def _forget_plans(self) -> None:
        """Forget which logs are usable, and what follows from that."""
        for name in [name for name in self._planned if name.split("/")[0] not in INGEST_ASSETS]:
            del self._planned[name]
        for name in ("records", "quarantined", "usable"):
            self.__dict__.pop(name, None)

    def _would_fail(self, record: QuarantineRecord) -> bool:
        """True if a log is as it was when it failed; a file that could not be read and can be now
        is another one.
        """
        if record.reason.startswith(UNREADABLE) and self._can_be_read(record.log_id):
            return False
        try:
            keys = self.failure_keys(record.asset, record.log_id)
        except (SourceError, KeyError):  # its files cannot be read; an asset that does not exist
            return True
        return record.fingerprint in keys

    def _can_be_read(self, log: str) -> bool:
        """True if the system lets this user read every file of a log."""
        try:
            ref = self.logs.refs[log]
            return all(os.access(file, os.R_OK) for file in (*ref.files, *ref.image_files))
        except (KeyError, OSError, SourceError):
            return False

    def _lineage_of_raw_log(self, name: str, log: str) -> Lineage:
        if log in self.logs.splits_of_world:
            assert self.logs.world is not None
            world = asdict(self.logs.world)
            config = {key: value for key, value in world.items() if key not in WORLD_COUNTS}
            return planned_lineage(name, {}, config, code_version("raw_logs"))
        code = code_version_of_modules(("ops/ingest/inventory.py", "storage/sources"))
        config = {"source": self.pipeline.source, "split": self.logs.refs[log].split}
        return planned_lineage(name, {"bytes": self.fingerprint(log)}, config, code)

    def _version_of_log(self, asset: str, name: str, log: str) -> str:
        """What lineage() says is the version, without the rest of it: there are many logs."""
        if asset not in self._configs:
            self._configs[asset] = counted(config_of(self.pipeline.preset, asset))
        seed = self.pipeline.preset.seed if ASSET_SPECS[asset].seeded else None
        parents, config = self._parents_of_log(asset, log), self._configs[asset]
        return version_of_counted(name, parents, config, code_version(asset), seed)

    def _rules_key(self, asset: str) -> str:
        if asset not in self._rules:
            self._rules[asset] = rules_key(asset, self.pipeline)
        return self._rules[asset]

    def _parents_of_log(self, asset: str, log: str) -> dict[str, str]:
        """An ingested log is planned from what it should be made of, since ingest makes that."""
        if asset in INGEST_ASSETS:
            return {f"{dep}/{log}": self.version(dep, log) for dep in ASSET_SPECS[asset].deps}
        return dict(
            self._input(dep, log if dep in PER_LOG_ASSETS else None)
            for dep in ASSET_SPECS[asset].deps
        )

    def _parents(self, asset: str) -> dict[str, str]:
        parents = self.parents_by_log(asset)
        for dep in ASSET_SPECS[asset].deps:
            if dep not in PER_LOG_ASSETS:
                parents |= dict([self._input(dep, None)])
        if asset == "evaluation" and (zero_shot := zero_shot_lineage(self.pipeline)) is not None:
            parents[zero_shot.asset] = zero_shot.version
        if asset == "report" and (tables := ablation_tables_version(self.lake)):
            parents["ablation"] = tables
        return parents

    def _input(self, dep: str, log: str | None) -> tuple[str, str]:
        """Name and version of an input of a training asset."""
        name = dep if log is None else f"{dep}/{log}"
        if not self.as_made:
            return name, self.version(dep, log)
        if not (made := self.made(dep, log)):
            raise self._input_error(dep, log, State.MISSING)
        return name, made

    def _state_of_made(self, asset: str, log: str | None) -> State:
        """MISSING, UNCHECKED, FAILED or CURRENT, whatever the artefact was made from."""
        name = asset if log is None else f"{asset}/{log}"
        if name not in self._states:
            self._states[name] = self._look_at(asset, log)
        return self._states[name]

    def _look_at(self, asset: str, log: str | None) -> State:
        if not self.made(asset, log):
            return State.MISSING
        if asset == "raw_logs" and log is not None and self.inventory(log) is None:
            self.damaged[self._path(asset, log)] = "its inventory cannot be read"
            return State.MISSING
        if not ASSET_SPECS[asset].checked:
            return State.CURRENT
        name = asset if log is None else f"{asset}/{log}"
        if name not in self._checks:
            path = self._path(asset, log)
            try:
                # the reader that raises: a damaged file is named in `damaged`
                values = read_object(path / CHECKS_FILE) or {}
                self._checks[name] = {
                    key: passed for key, passed in values.items() if isinstance(passed, bool)
                }
            except DAMAGE as error:
                self.damaged[path] = str(error).splitlines()[0]
                self._checks[name] = {}
        checks = self._checks[name]
        if self._rules_key(asset) not in checks:
            return State.UNCHECKED
        return State.CURRENT if all(checks.values()) else State.FAILED

    def _is_ingested(self, log: str) -> bool:
        """True if every ingest asset of a log is made and passed its checks, stale or not, and the
        log was in the split where it lies now.
        """
        if any(self._state_of_made(asset, log) is not State.CURRENT for asset in INGEST_ASSETS):
            return False
        inventory = self.inventory(log)
        return inventory is not None and inventory.split == self.logs.split(log)

    def _inventory_of(self, log: str) -> Inventory:
        inventory = self.inventory(log)
        assert inventory is not None, log  # usable logs have one
        return inventory

    def _path(self, asset: str, log: str | None) -> Path:
        if asset not in self._folders:
            self._folders[asset] = self.lake.asset(asset)
        return self._folders[asset] if log is None else self._folders[asset] / log

    def _input_error(self, asset: str, log: str | None, state: State) -> ArtifactError:
        path = self._path(asset, log)
        if path in self.damaged:
            what, found = f"'{asset}' is damaged", self.damaged[path]
        elif state is State.FAILED:
            checks = self._checks[asset if log is None else f"{asset}/{log}"]
            what = f"'{asset}' failed its data checks"
            found = ", ".join(sorted(name for name, passed in checks.items() if not passed))
        elif state is State.UNCHECKED:
            what, found = f"'{asset}' has not been checked", "no outcome of its blocking checks"
        else:
            what, found = f"there is no '{asset}'", "nothing"
        return ArtifactError(
            what,
            where=path,
            expected="a finished artefact that passed its checks",
            found=found,
            do=f"make and check it: latentvla run --until {asset}",
        )

    def no_log_error(self) -> ArtifactError:
        """Why there is no usable log."""
        held = self.quarantined
        if self.none_left:
            reasons = [f"{log}: {record.reason.splitlines()[0]}" for log, record in held.items()]
            more = [f"and {len(held) - SHOWN} more"] if len(held) > SHOWN else []
            every = "the only log is" if len(held) == 1 else f"all {len(held)} logs are"
            return ArtifactError(
                f"no log is left: {every} quarantined",
                where=self.lake.quarantine,
                expected="at least one log that can be read and passes its checks",
                found="; ".join([*reasons[:SHOWN], *more]),
                do="correct or replace the raw logs; every reason: latentvla status",
            )
        states = self.states("trajectories") if self.log_ids else Counter()
        return ArtifactError(
            "no log has been ingested",
            where=self.lake.root,
            expected="trajectories/<log_id>",
            found=", ".join(f"{number} {state}" for state, number in states.items()) or "no log",
            do="make them: latentvla run --until trajectories; quarantine: latentvla status",
        )


def rules_key(asset: str, pipeline: Pipeline) -> str:
    """The entry of checks.json that says that the asset's present blocking checks have run."""
    return f"rules {rules_version(asset, rule_limits(pipeline, asset))}"


def rule_limits(pipeline: Pipeline, asset: str) -> str | None:
    """Digest of the rules that a file of rules changes; None without such a file."""
    if not pipeline.preset.quality.file:
        return None
    from ops.quality.rules import limits_version

    return limits_version(pipeline.preset.quality, asset)


def zero_shot_lineage(pipeline: Pipeline) -> Lineage | None:
    """The lineage that the evaluation's zero-shot logs will have; None if the preset has none."""
    from ops.ingest.zero_shot_logs import zero_shot_logs_lineage

    config = pipeline.preset.evaluation.zero_shot
    if config is None:
        return None
    code = code_version_of_modules(("ops/ingest/zero_shot_logs.py",))
    return zero_shot_logs_lineage(config.logs, code)


def count(number: int, noun: str) -> str:
    """`1 log`, `2 logs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _changed_at(folder: Path) -> int:
    """When an entry of a folder was added, replaced or removed last, ns; 0 without the folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


_OF_RUN: dict[tuple[str, bool], Ledger] = {}  # (Dagster run, as_made) -> the ledger of that run


def ledger_of_run(run_id: str, pipeline: Pipeline, *, as_made: bool = False) -> Ledger:
    """The ledger that all steps of a Dagster run in this process share. A step that makes or
    checks something calls `changed`. A log that was set aside since the last step is left out.
    """
    for key in [key for key in _OF_RUN if key[0] != run_id]:
        del _OF_RUN[key]
    if (run_id, as_made) not in _OF_RUN:
        _OF_RUN[run_id, as_made] = Ledger(pipeline, as_made=as_made)
    _OF_RUN[run_id, as_made].reread_quarantine()
    return _OF_RUN[run_id, as_made]
