"""The names of the nine assets, in the order of the pipeline."""

ASSET_NAMES = (
    "raw_logs",
    "frames",
    "trajectories",
    "codebook",
    "relabeled",
    "vla",
    "student",
    "evaluation",
    "report",
)
# made of each raw log alone
INGEST_ASSETS = ("raw_logs", "frames", "trajectories")
PER_LOG_ASSETS = (*INGEST_ASSETS, "relabeled")  # one artefact a log
