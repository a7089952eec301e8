"""The nine assets of the pipeline: what each is made from, by which code and configuration.

The dependencies and code versions of the Dagster assets follow from this table, and so do, in
ledger.py, the lineage of every artefact and the decision whether it is current.
"""

from dataclasses import dataclass
from functools import lru_cache

from assets.chain.code_version import ROOT, code_version_of_modules
from storage.artifact import code_version_of

ALL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class AssetSpec:
    """What the pipeline has to know of one asset."""

    deps: tuple[str, ...]  # assets it reads
    # files or folders below the repository root that do the work; our modules that they import
    # count too
    code: tuple[str, ...]
    needs: tuple[str, ...] = ()  # capabilities that at least one log must have
    seeded: bool = False  # its content depends on the run's seed
    checked: bool = True  # it has blocking checks, whose outcome is kept beside the artefact
    splits: tuple[str, ...] = ALL_SPLITS  # logs whose tables it reads
    rules: tuple[str, ...] = ()  # files of its blocking checks beside assets/<asset>.py


ASSET_SPECS: dict[str, AssetSpec] = {
    "raw_logs": AssetSpec((), ("ops/synthesize/world.py",), checked=False),
    "frames": AssetSpec(("raw_logs",), ("ops/ingest/decode.py", "storage/sources")),
    "trajectories": AssetSpec(
        ("raw_logs", "frames"),
        ("ops/ingest/extract.py", "storage/sources"),
        rules=("storage/expectations.py",),
    ),
    "codebook": AssetSpec(
        ("frames", "trajectories"),
        ("ops/latent_actions/learn_actions.py",),
        seeded=True,
        splits=("train", "val"),
    ),
    "relabeled": AssetSpec(
        ("frames", "trajectories", "codebook"),
        ("ops/latent_actions/relabel.py",),
        rules=("storage/expectations.py",),
    ),
    "vla": AssetSpec(
        ("frames", "trajectories", "relabeled"),
        ("ops/vla/finetune.py",),
        ("map", "command"),
        seeded=True,
        splits=("train", "val"),
    ),
    "student": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla"),
        ("ops/student/distill.py",),
        ("map", "command"),
        seeded=True,
        splits=("train", "val"),
    ),
    "evaluation": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla", "student"),
        ("ops/evaluation/evaluate.py", "ops/planners/planner.py", "ops/evaluation/zero_shot.py"),
        ("map", "command", "agents"),
        seeded=True,
        splits=("test",),
    ),
    "report": AssetSpec(
        ("frames", "codebook", "relabeled", "vla", "student", "evaluation"),
        ("ops/report/report.py",),
        ("map", "command", "agents"),
        checked=False,
    ),
}


def code_version(asset: str) -> str:
    """Version of the code that makes an asset: its modules and our modules that they import."""
    return code_version_of_modules(ASSET_SPECS[asset].code)


@lru_cache
def rules_version(asset: str) -> str:
    """Version of the blocking checks of an asset: with another one, its artefacts are checked
    again, but not made again.
    """
    files = (f"assets/{asset}.py", *ASSET_SPECS[asset].rules)
    return code_version_of([ROOT / name for name in files])
