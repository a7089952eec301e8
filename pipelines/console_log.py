"""The log that `latentvla run` prints: one short line a message. --verbose shows Dagster's own log
instead.
"""

import logging
import sys
from typing import Any

import dagster as dg

from storage.printable import printable

_EVENTS = {"STEP_START": "started"}  # Dagster's events that are shown -> their text


class _Brief(logging.Formatter):
    """`asset  message`."""

    def format(self, record: logging.LogRecord) -> str:
        meta = _meta(record)
        message = meta.get("orig_message") or record.getMessage()
        if (event := meta.get("dagster_event")) is not None:
            message = _EVENTS.get(event.event_type_value, message)
        return printable(f"  {meta.get('step_key') or '':<22} {message}")


class _Relevant(logging.Filter):
    """Messages of the assets from INFO on, and the Dagster events in _EVENTS."""

    def filter(self, record: logging.LogRecord) -> bool:
        event = _meta(record).get("dagster_event")
        if event is not None:
            return event.event_type_value in _EVENTS
        return record.levelno >= logging.INFO


@dg.logger({}, description="One short line a message, for a person at a terminal.")
def brief_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """A logger that writes to stdout."""
    logger = logging.Logger("latentvla", level=logging.DEBUG)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Brief())
    handler.addFilter(_Relevant())
    logger.addHandler(handler)
    return logger


def _meta(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "dagster_meta", {})
