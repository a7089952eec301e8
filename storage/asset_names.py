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
PER_LOG_ASSETS = ("raw_logs", "frames", "trajectories")
