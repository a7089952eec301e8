"""Configuration of the data checks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """The rules of a run."""

    # TOML file of changed limits and severities, see ops/quality/rules.py; "": the rules as listed
    file: str = ""
