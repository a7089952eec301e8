"""A pipeline with a world of a few short logs, for tests of ingest. Its preset has only what ingest
reads.
"""

from dataclasses import dataclass, field

import dagster as dg

from assets import frames, raw_logs, trajectories
from assets.chain.per_log import LOGS, range_tags
from assets.chain.pipeline import Pipeline, RawLogs
from ops.ingest.config import ExtractConfig, FrameConfig
from ops.quality.config import QualityConfig
from ops.synthesize.config import WorldConfig
from ops.training.config import ComputeConfig
from storage.asset_names import INGEST_ASSETS


@dataclass(frozen=True)
class TinyPreset:
    """The fields of a preset that the ingest assets read."""

    scale: str = "tiny"
    seed: int = 0
    processes: int = 1
    retrain_after_logs: int = 2
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    world: WorldConfig | None = field(
        default_factory=lambda: WorldConfig(
            train_logs=2,
            val_logs=1,
            test_logs=0,
            seconds=7.0,
            image_width=64,
            image_height=36,
            event_rate=0.0,
        )
    )
    frames: FrameConfig = field(default_factory=FrameConfig)
    trajectories: ExtractConfig = field(default_factory=ExtractConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)


TINY = TinyPreset()
MODULES = [raw_logs, frames, trajectories]


def tiny_pipeline(lake, source="openscene", raw="") -> Pipeline:
    """A pipeline over a lake in a test's folder; without `raw`, the tiny synthetic world."""
    return Pipeline(source, str(raw), str(lake), TINY)


def ingest(
    pipeline: Pipeline, instance: dg.DagsterInstance, log_ids=None, assets=INGEST_ASSETS
) -> dg.ExecuteInProcessResult:
    """Run ingest assets over some logs of the pipeline (default: all) as one Dagster run."""
    definitions = dg.Definitions(
        assets=dg.load_assets_from_modules(MODULES),
        resources={"pipeline": pipeline},
        executor=dg.in_process_executor,
        asset_checks=dg.load_asset_checks_from_modules(MODULES),
        jobs=[dg.define_asset_job("tiny", selection=dg.AssetSelection.assets(*assets))],
    )
    log_ids = log_ids or RawLogs(pipeline).ids
    instance.add_dynamic_partitions(
        LOGS.name, [log for log in log_ids if log not in instance.get_dynamic_partitions(LOGS.name)]
    )
    return definitions.resolve_job_def("tiny").execute_in_process(
        instance=instance,
        tags=range_tags(log_ids),
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Outcome of every check of a run."""
    return {item.check_name: item.passed for item in result.get_asset_check_evaluations()}
