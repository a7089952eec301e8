"""What every test gets: one thread, no network, no telemetry, and never the checkout's own Dagster
history.
"""

import os
import signal

# A shell starts its background jobs with SIGINT ignored, and what the tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name, value in {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(name, value)
for name in (
    "DAGSTER_HOME",
    "DAGSTER_MODULE_NAME",
    "LATENTVLA_SCALE",
    "LATENTVLA_SOURCE",
    "LATENTVLA_RAW",
    "LATENTVLA_LAKE",
):
    os.environ.pop(name, None)  # a person's own settings do not decide what the tests see
