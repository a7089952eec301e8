"""Detects whether the NAVSIM devkit is installed, and which version.

Another project owns the name `navsim` on the package index, so the package name alone proves
nothing: the check looks for modules deep in the devkit, without importing any package.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec

from ops.pdm.config import Version
from storage.errors import ConfigError

_ANY = "navsim.common.dataclasses"
_ONLY_V2 = "navsim.traffic_agents_policies.abstract_traffic_agents_policy"
_INSTALL = (
    "pip install --no-deps git+https://github.com/autonomousvision/navsim.git@{branch} "
    "git+https://github.com/motional/nuplan-devkit.git@nuplan-devkit-v1.2"
)
_BRANCHES: dict[Version, str] = {"v1": "v1.1", "v2": "main"}


def devkit_version() -> Version | None:
    """v1 for the devkit's branch v1.1, v2 for its main branch, None if it is not installed."""
    return None if not _has_module(_ANY) else "v2" if _has_module(_ONLY_V2) else "v1"


def require_devkit() -> Version:
    """Version of the installed devkit. Raises ConfigError, with the command that installs it, if
    there is none.
    """
    version = devkit_version()
    if version is None:
        foreign = "a package 'navsim' of another project" if find_spec("navsim") else None
        raise ConfigError(
            f"the NAVSIM devkit is not installed; get it with: {install_command('v1')} "
            "(PDMS; @main for EPDMS)",
            expected=f"module {_ANY}",
            found=foreign,
        )
    return version


def install_command(version: Version) -> str:
    """Command that installs the devkit of a version."""
    return _INSTALL.format(branch=_BRANCHES[version])


def incomplete_devkit(error: ModuleNotFoundError) -> ConfigError:
    """The error for an installed devkit that lacks one of its required packages."""
    return ConfigError(
        f"the NAVSIM devkit needs '{error.name}', which is not installed",
        found=str(error),
        do="install the packages of the devkit's requirements.txt; versions: docs/metrics.md",
    )


def _has_module(name: str) -> bool:
    """True if a dotted module exists. Unlike find_spec this runs no package's __init__."""
    first, *rest = name.split(".")
    spec = find_spec(first)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return False
        first = f"{first}.{part}"
        spec = PathFinder.find_spec(first, spec.submodule_search_locations)
    return spec is not None
