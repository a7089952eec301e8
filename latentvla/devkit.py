"""Our student in the NAVSIM devkit: its agent and its submission file.

The agent is `_target_=latentvla.devkit.StudentAgent`; it needs the devkit (docs/metrics.md).
"""

from typing import TYPE_CHECKING, Any

import latentvla  # noqa: F401  # makes the code of a wheel importable

if TYPE_CHECKING:
    from ops.devkit.agent import StudentAgent
    from ops.devkit.submission import Team, write_submission

__all__ = ["StudentAgent", "Team", "write_submission"]


def __getattr__(name: str) -> Any:
    if name == "StudentAgent":
        from ops.devkit import agent

        return agent.StudentAgent
    if name in __all__:
        from ops.devkit import submission

        return getattr(submission, name)
    raise AttributeError(f"module 'latentvla.devkit' has no attribute '{name}'")
