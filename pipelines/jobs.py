"""The jobs: the whole pipeline, ingest of logs, and training."""

import dagster as dg

INGEST = dg.AssetSelection.assets("raw_logs", "frames", "trajectories")
TRAINING = dg.AssetSelection.assets(
    "codebook", "relabeled", "vla", "student", "evaluation", "report"
)

pipeline = dg.define_asset_job(
    "pipeline",
    selection=INGEST | TRAINING,
    description="Ingests the chosen logs, then trains, evaluates and reports on all ingested logs.",
)
chain = dg.define_asset_job(
    "chain",
    selection=INGEST | TRAINING,
    description="The former name of the job `pipeline`, which does the same; it will be removed in "
    "the next release.",
)
ingest = dg.define_asset_job(
    "ingest",
    selection=INGEST,
    description="Makes inventory, images and tables of the chosen logs.",
)
training = dg.define_asset_job(
    "training",
    selection=TRAINING,
    description="Makes everything from the codebook to the report, on all ingested logs.",
)
JOBS = [pipeline, chain, ingest, training]
