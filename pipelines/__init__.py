"""How a run is put together: definitions, jobs, schedules, sensors, resources, presets and the
command line.
"""

import os

# These are read when torch, OpenMP, Dagster or the hub client are first imported, so they are set
# before every other import.
# processes share the work; see ComputeConfig.threads
os.environ.setdefault("OMP_NUM_THREADS", "1")
# idle threads sleep instead of spinning
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
# a progress bar for each small file hides the other output
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
