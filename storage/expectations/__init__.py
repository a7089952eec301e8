"""The data rules of the tables, evaluated by Great Expectations.

A rule that blocks and fails stops training on the log; the others warn. Failed rows are listed by
key. `rules` is the list of rules, `columns` derives what they test, `suite` runs them, `data_docs`
draws the page.
"""

from storage.expectations.rules import (
    AGENT_RULES,
    RELABELED_RULES,
    RULES,
    TRAJECTORY_RULES,
    LogFailure,
    Rule,
)
from storage.expectations.suite import (
    RuleResult,
    Validation,
    validate,
    validate_agents,
    validate_relabeled,
    validate_trajectories,
)

__all__ = [
    "AGENT_RULES",
    "RELABELED_RULES",
    "RULES",
    "TRAJECTORY_RULES",
    "LogFailure",
    "Rule",
    "RuleResult",
    "Validation",
    "validate",
    "validate_agents",
    "validate_relabeled",
    "validate_trajectories",
]
