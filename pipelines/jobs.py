"""The jobs: the whole pipeline, ingest of logs, and training."""

import dagster as dg

from storage.asset_names import ASSET_NAMES, INGEST_ASSETS

TRAINING_ASSETS = tuple(asset for asset in ASSET_NAMES if asset not in INGEST_ASSETS)
INGEST, TRAINING = (
    dg.AssetSelection.assets(*INGEST_ASSETS),
    dg.AssetSelection.assets(*TRAINING_ASSETS),
)
# the jobs that make assets of these groups
INGEST_JOBS, TRAINING_JOBS = ("ingest", "pipeline", "chain"), ("training", "pipeline", "chain")

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
checks = dg.define_asset_job(
    "checks",
    selection=dg.AssetSelection.all_asset_checks(),
    description="Runs every check again on what lies in the lake, and makes nothing.",
)
JOBS = [pipeline, chain, ingest, training, checks]
