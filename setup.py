"""Which folders a wheel holds; everything else of the project stands in pyproject.toml.

The five folders of the repository are installed inside `latentvla`, as latentvla/_packages/ops and
so on: packages called ops, models or storage in site-packages would overwrite those of others.
"""

from setuptools import find_packages, setup

FOLDERS = ("pipelines", "assets", "ops", "models", "storage")
OURS = find_packages(include=[*FOLDERS, *(f"{name}.*" for name in FOLDERS)])
INSIDE = {f"latentvla._packages.{name}": name.replace(".", "/") for name in OURS}

setup(
    packages=["latentvla", *INSIDE],
    package_dir={"latentvla": "latentvla", **INSIDE},
    package_data={"latentvla": ["py.typed"], "latentvla._packages.ops.drawing": ["*.j2"]},
)
