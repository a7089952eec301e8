"""The jobs: the whole pipeline, ingest of logs, and training. What each asset does stands in
assets/.
"""

import dagster as dg

INGEST = dg.AssetSelection.assets("raw_logs", "frames", "trajectories")
TRAINING = dg.AssetSelection.assets(
    "codebook", "relabeled", "vla", "student", "evaluation", "report"
)

pipeline = dg.define_asset_job(
    "pipeline",
    selection=INGEST | TRAINING,
    description="Ingest of the chosen logs, then "
    "training, evaluation and report on all ingested logs.",
)
ingest = dg.define_asset_job(
    "ingest",
    selection=INGEST,
    description="Take stock of the chosen logs, decode their images, extract their tables.",
)
training = dg.define_asset_job(
    "training",
    selection=TRAINING,
    description="From the codebook to the report, on all ingested logs.",
)
JOBS = [pipeline, ingest, training]
