"""What changes the version of an asset and what does not: the table in docs/formats.md, row by row,
on a copy of the source tree.
"""

import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from assets.chain import code_version as code_versions
from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.code_version import ROOT, code_version_of_modules, modules_of, rules_version
from assets.chain.preset import config_of
from ops.ablation.ablate import AblationConfig, choose_variants, plan_steps
from ops.study.config import StudyConfig
from ops.training.config import ComputeConfig
from pipelines.presets import preset, synthetic
from storage.artifact import planned_lineage
from storage.lake import Lake
from storage.provenance import packages
from storage.versions import COUNTED_PACKAGES, digest

TRAINED = {"codebook", "vla", "student"}
# Every setting that says how the work is done and not what comes out.
KNOBS = {
    "Preset.scale",
    "Preset.processes",
    "Preset.retrain_after_logs",
    "ComputeConfig.address",
    "ComputeConfig.max_failures",
    "ComputeConfig.at_once",
    "FitConfig.report_every",
    "FitConfig.checkpoint_every",
    "RelabelConfig.batch",
    "RelabelConfig.threads",
    "VlmConfig.gradient_checkpointing",
    "ScenesConfig.processes",
    "ScenesConfig.rows_a_process",
    "StudentConfig.latency_calls",
    "WorldConfig.train_logs",
    "WorldConfig.val_logs",
    "WorldConfig.test_logs",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the source tree."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("assets", "models", "ops", "storage"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    """Versions are kept for the life of a process; here the code changes within one."""
    yield
    forget()


def forget() -> None:
    for function in (
        code_version_of_modules,
        code_versions._code_of_rules,
        code_versions._source,
    ):
        function.cache_clear()


def versions(root: Path) -> dict[str, dict[str, str]]:
    """Code and rules versions of all assets."""
    forget()
    return {
        "code": {name: code_version_of_modules(spec.code, root) for name, spec in ASSETS.items()},
        "rules": {name: rules_version(name, root=root) for name in ASSETS},
    }


ASSETS = ASSET_SPECS


def changed(tree: Path, path: str, before: str, after: str) -> dict[str, set[str]]:
    """The assets whose code and whose rules have another version with this change of a file."""
    file, old = tree / path, versions(tree)
    text = file.read_text()
    assert before in text, f"{path} has no {before!r}"
    try:
        file.write_text(text.replace(before, after, 1))
        new = versions(tree)
    finally:
        file.write_text(text)
    return {
        kind: {name for name in old[kind] if old[kind][name] != new[kind][name]} for kind in old
    }


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        pytest.param("ops/vla/finetune.py", '"""', '"""In other words: ', id="a docstring"),
        pytest.param("storage/dataset.py", "\nimport", "\n\n# why\nimport", id="a comment"),
        pytest.param(
            "ops/training/config.py", "default=200", "default=7", id="the default of a knob"
        ),
        pytest.param(
            "ops/training/config.py",
            "    report_every: int",
            '    verbose: int = field(default=1, metadata={"how": True})\n    report_every: int',
            id="a new knob",
        ),
        pytest.param("ops/latent_actions/pictures.py", "_ROWS = 4", "_ROWS = 5", id="a picture"),
        pytest.param("ops/pool.py", "spawn", "forkserver", id="how processes are started"),
        pytest.param(
            "ops/training/runs.py", "wait=False", "wait=True", id="how trainings are started"
        ),
        pytest.param(
            "ops/training/launch.py", "num_to_keep=2", "num_to_keep=3", id="how Ray is used"
        ),
        pytest.param(
            "ops/ingest/each_log.py", "(works) > 2", "(works) > 3", id="how logs are shared out"
        ),
        pytest.param("assets/vla.py", '"pytorch", "ray"', '"pytorch"', id="an asset's declaration"),
        pytest.param(
            "assets/vla.py", '"codes by position"', '"codes"', id="what the UI shows of an asset"
        ),
    ],
)
def test_how_the_work_is_done_and_shown_changes_no_version(tree, path, before, after):
    assert changed(tree, path, before, after) == {"code": set(), "rules": set()}


@pytest.mark.parametrize(
    ("path", "before", "after", "stale", "fresh"),
    [
        pytest.param(
            "ops/training/heldout.py",
            "HELD_OUT_SHARE = 0.2",
            "HELD_OUT_SHARE = 0.3",
            TRAINED,
            {"frames", "trajectories", "relabeled", "report"},
            id="the choice of held-out rows",
        ),
        pytest.param(
            "assets/vla.py",
            "materialization.log_ids, preset",
            "materialization.log_ids[:3], preset",
            {"vla"},
            set(ASSETS) - {"vla"},
            id="the rows that an asset's body chooses",
        ),
        pytest.param(
            "assets/frames.py",
            "pipeline.preset.frames",
            "FrameConfig(max_width=64)",
            {"frames"},
            set(ASSETS) - {"frames"},
            id="what an asset does with each log",
        ),
        pytest.param(
            "assets/evaluation.py",
            "pipeline.preset.processes",
            "1",
            {"evaluation"},
            set(ASSETS) - {"evaluation"},
            id="a function that an asset's body calls",
        ),
        pytest.param(
            "ops/drawing/page_template.html.j2",
            "<body",
            "<body lang='de'",
            {"report"},
            set(ASSETS) - {"report"},
            id="a template",
        ),
        pytest.param(
            "ops/training/config.py",
            "clip: float = 1.0",
            "clip: float = 2.0",
            TRAINED,
            {"raw_logs", "frames", "trajectories", "report"},
            id="the default of a setting that is no knob",
        ),
        pytest.param(
            "ops/training/launch.py",
            "convert_sync_batchnorm(model)",
            "convert_sync_batchnorm(model.train())",
            TRAINED,
            {"raw_logs", "frames", "trajectories", "report"},
            id="what is done to a network on several workers",
        ),
        pytest.param(
            "ops/planners/latency.py",
            "calls: int = 60",
            "calls: int = 70",
            {"evaluation"},
            set(ASSETS) - {"evaluation"},
            id="how the evaluation measures time",
        ),
        pytest.param(
            "ops/vla/planner.py",
            "\nimport",
            "\nCHANGED = 1\nimport",
            {"student", "evaluation"},
            {"codebook", "relabeled", "vla"},
            id="how the evaluated planners are opened",
        ),
    ],
)
def test_what_is_done_changes_the_versions_of_those_who_do_it(
    tree, path, before, after, stale, fresh
):
    made_anew = changed(tree, path, before, after)["code"]
    assert stale <= made_anew and not fresh & made_anew


INGEST_RULES = {"frames", "trajectories"}
DATA_RULES = INGEST_RULES | {"relabeled"}


@pytest.mark.parametrize(
    ("path", "before", "after", "unchecked"),
    [
        (
            "storage/expectations/rules.py",
            "high=60.0",
            "high=50.0",
            DATA_RULES | {"evaluation"},
        ),
        ("ops/quality/images.py", "STILL_CHANGE = 0.6", "STILL_CHANGE = 0.5", INGEST_RULES),
        ("assets/chain/quality_checks.py", "for item in checked", "for _ in checked", INGEST_RULES),
        ("assets/chain/quality_checks.py", '("plans", plan_columns)', "", {"evaluation"}),
        ("assets/codebook.py", '"speed_r2": 0.85', '"speed_r2": 0.95', {"codebook"}),
        ("assets/student.py", "PARITY_M = 1e-3", "PARITY_M = 1e-4", {"student"}),
        ("ops/vla/verdict.py", "IMAGE_COST_NATS = ", "IMAGE_COST_NATS = 2 * ", {"vla"}),
        ("ops/report/offline.py", "\nimport", "\nCHANGED = 1\nimport", {"report"}),
    ],
)
def test_a_stricter_rule_asks_for_new_checks_and_makes_nothing_anew(
    tree, path, before, after, unchecked
):
    found = changed(tree, path, before, after)
    assert found["rules"] == unchecked
    assert found["code"] <= {"report"}  # which says what the checks found


def test_the_limits_of_a_configured_rule_count():
    rules = {rules_version("trajectories", limits) for limits in (None, {"a": 1}, {"a": 2})}
    assert len(rules) == 3


def test_code_that_has_moved_does_not_silently_stop_to_count(tree):
    with pytest.raises(LookupError, match=r"no_such_file\.py does not exist"):
        modules_of(("ops/no_such_file.py",), tree)
    with pytest.raises(LookupError, match="no part 'no_such_function'"):
        modules_of(("assets/vla.py::no_such_function()",), tree)


def test_the_body_of_every_asset_counts():
    for asset, spec in ASSETS.items():
        if asset != "raw_logs":  # it passes on the world's configuration, or inventories files
            assert any(name.startswith(f"assets/{asset}.py::") for name in modules_of(spec.code))


@pytest.mark.parametrize(
    ("distribution", "release", "stale", "fresh"),
    [
        ("torch", "2.99.0", TRAINED | {"relabeled"}, {"frames", "report"}),
        ("zarr", "9.0.0", {"frames"}, {"raw_logs"}),
        ("numba", "9.9", {"vla", "evaluation"}, {"frames", "codebook"}),
        ("transformers", "9.0", {"codebook", "vla"}, {"frames", "trajectories"}),
        ("torch", "2.13.99+cu130", set(), set(ASSETS)),
        ("matplotlib", "99.0", set(), set(ASSETS)),
        ("dagster", "99.0", set(), set(ASSETS)),
    ],
)
def test_packages_count_by_their_first_two_numbers_for_those_who_compute_with_them(
    distribution, release, stale, fresh, monkeypatch
):
    import storage.versions

    installed = storage.versions._installed
    old = versions(ROOT)["code"]

    def other(name: str) -> str:
        return release if name == distribution else installed(name)

    monkeypatch.setattr(storage.versions, "_installed", other)
    new = versions(ROOT)["code"]
    made_anew = {name for name in old if old[name] != new[name]}
    assert stale <= made_anew and not fresh & made_anew


def test_every_package_that_counts_is_recorded():
    recorded = packages()
    assert recorded["torch"].startswith("2.") and "dagster" in recorded
    assert all(any(name in recorded for name in names) for names in COUNTED_PACKAGES.values())


def settings(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and name (class.field) of every setting of a configuration that is no configuration."""
    for item in fields(config):
        value, inner = getattr(config, item.name), (*path, item.name)
        if is_dataclass(value):
            yield from settings(value, inner)
        elif not item.metadata.get("content"):
            yield inner, f"{type(config).__name__}.{item.name}"


def with_other_value(config: Any, path: tuple[str, ...]) -> Any:
    """The configuration with another value of one setting."""
    value = getattr(config, path[0])
    if len(path) > 1:
        return replace(config, **{path[0]: with_other_value(value, path[1:])})
    if value is None or isinstance(value, str):
        value = f"{value or ''}x"
    elif isinstance(value, tuple):
        value = (*value, value[0] if value else "x")
    else:
        value = not value if isinstance(value, bool) else value + 1
    return replace(config, **{path[0]: value})


def all_configurations() -> list[Any]:
    whole = synthetic()
    ablation = AblationConfig(
        ("vla",), (0,), 16, whole.vla, whole.student, whole.evaluation, whole.compute
    )
    study = StudyConfig(
        whole.study,
        whole.world,
        whole.frames,
        whole.trajectories,
        whole.codebook,
        whole.relabeled,
        whole.vla,
        whole.evaluation,
    )
    return [whole, ablation, study, study.towns]


def test_every_setting_changes_the_version_unless_it_is_one_of_the_knobs():
    silent, counting = set(), set()
    for config in all_configurations():
        before = digest(config)
        for path, name in settings(config):
            same = digest(with_other_value(config, path)) == before
            (silent if same else counting).add(name)
    assert silent == KNOBS and not silent & counting
    assert len(counting) > 100


def test_knobs_are_recorded_in_the_lineage_although_they_do_not_count():
    whole = synthetic()
    other = replace(whole, student=replace(whole.student, latency_calls=7))
    lineages = [
        planned_lineage("student", {}, config_of(item, "student"), "c0de", 0)
        for item in (whole, other)
    ]
    assert lineages[0].version == lineages[1].version
    assert [item.config["latency_calls"] for item in lineages] == [40, 7]
    assert lineages[0].config["compute"]["at_once"] == 2


@pytest.mark.parametrize(
    ("hardware", "counts"),
    [
        (ComputeConfig(num_workers=2), True),
        (ComputeConfig(use_gpu=True), True),
        (ComputeConfig(threads=2), True),
        (ComputeConfig(at_once=1), False),
        (ComputeConfig(max_failures=5), False),
        (ComputeConfig(address="auto"), False),
    ],
)
def test_hardware_counts_where_networks_are_trained_and_where_it_changes_them(hardware, counts):
    one, other = synthetic(), replace(synthetic(), compute=hardware)
    for asset in ASSETS:
        differs = digest(config_of(one, asset)) != digest(config_of(other, asset))
        assert differs == (counts and asset in TRAINED), asset
    steps = [
        plan_steps(
            Lake(Path("lake")),
            AblationConfig(
                choose_variants(["vla"]),
                (0,),
                16,
                item.vla,
                item.student,
                item.evaluation,
                item.compute,
            ),
            {},
            {"vla": "c0de", "varied": "c0de", "evaluation": "c0de"},
        )[0].lineage.version
        for item in (one, other)
    ]
    assert (steps[0] != steps[1]) == counts


def test_the_scales_differ_in_what_they_say_and_not_in_their_names():
    whole = preset("synthetic")
    assert digest(replace(whole, scale="renamed")) == digest(whole)
