"""What `latentvla run` prints while Dagster runs: one short line a message. Not Dagster's own log:
`--verbose`.
"""

import logging
import sys

import dagster as dg


class _Brief(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        step = getattr(record, "dagster_meta", {}).get("step_key") or ""
        event = getattr(record, "dagster_meta", {}).get("dagster_event")
        message = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        if event is not None:
            message = _EVENTS.get(event.event_type_value, message)
        return f"  {step:<22} {message}"


class _Worth(logging.Filter):
    """Own messages from INFO on; of Dagster's events only the start of a step."""

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "dagster_meta", {}).get("dagster_event")
        return (
            event.event_type_value in _EVENTS
            if event is not None
            else record.levelno >= logging.INFO
        )


_EVENTS = {"STEP_START": "begins"}


@dg.logger({}, description="One short line a message, for a person at a terminal.")
def brief_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """A logger that writes to stdout."""
    logger = logging.Logger("latentvla", level=logging.DEBUG)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Brief())
    handler.addFilter(_Worth())
    logger.addHandler(handler)
    return logger
