"""The nine assets of the pipeline: what each is made from, by which code and configuration.

The dependencies and code versions of the Dagster assets follow from this table, and so do, in
ledger.py, the lineage of every artefact and the decision whether it is current.
"""

from dataclasses import dataclass

from assets.chain.code_version import code_version_of_modules

ALL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class AssetSpec:
    """What the pipeline has to know of one asset."""

    deps: tuple[str, ...]  # assets it reads
    # the code that does the work, as assets/chain/code_version.py names it; what it imports counts.
    # First the module of the verb
    code: tuple[str, ...]
    needs: tuple[str, ...] = ()  # capabilities that at least one log must have
    seeded: bool = False  # its content depends on the run's seed
    checked: bool = True  # it has blocking checks, whose outcome is kept beside the artefact
    splits: tuple[str, ...] = ALL_SPLITS  # logs whose tables it reads


ASSET_SPECS: dict[str, AssetSpec] = {
    "raw_logs": AssetSpec((), ("ops/synthesize/world.py",), checked=False),
    "frames": AssetSpec(
        ("raw_logs",),
        ("ops/ingest/decode.py", "assets/frames.py::frames.work_of", "storage/sources"),
    ),
    "trajectories": AssetSpec(
        ("raw_logs", "frames"),
        (
            "ops/ingest/extract.py",
            "assets/trajectories.py::trajectories.work_of",
            "storage/sources",
        ),
    ),
    "codebook": AssetSpec(
        ("frames", "trajectories"),
        ("ops/latent_actions/learn_actions.py", "assets/codebook.py::codebook()"),
        seeded=True,
        splits=("train", "val"),
    ),
    "relabeled": AssetSpec(
        ("frames", "trajectories", "codebook"),
        ("ops/latent_actions/relabel.py", "assets/relabeled.py::relabeled()"),
    ),
    "vla": AssetSpec(
        ("frames", "trajectories", "relabeled"),
        ("ops/vla/finetune.py", "assets/vla.py::vla()"),
        ("map", "command"),
        seeded=True,
        splits=("train", "val"),
    ),
    "student": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla"),
        ("ops/student/distill.py", "assets/student.py::student()"),
        ("map", "command"),
        seeded=True,
        splits=("train", "val"),
    ),
    "evaluation": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla", "student"),
        (
            "ops/evaluation/evaluate.py",
            "assets/evaluation.py::evaluation()",
            "ops/planners/latency.py",
        ),
        ("map", "command", "agents"),
        seeded=True,
        splits=("test",),
    ),
    "report": AssetSpec(
        ("frames", "codebook", "relabeled", "vla", "student", "evaluation"),
        ("ops/report/report.py", "assets/report.py::report()"),
        ("map", "command", "agents"),
        checked=False,
    ),
}


def code_version(asset: str) -> str:
    """Version of the code that makes an asset: its modules and our modules that they import."""
    return code_version_of_modules(ASSET_SPECS[asset].code)
