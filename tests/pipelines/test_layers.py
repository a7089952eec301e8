"""Imports point down, and each heavy library has one door: import-linter's contracts in
pyproject.toml.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).parent / "lint-imports"


def lint(config: str, folder: Path) -> subprocess.CompletedProcess:
    """Run import-linter with a configuration of its own."""
    file = folder / "importlinter.toml"
    file.write_text(config)
    return subprocess.run(
        [LINT, "--config", file, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def contracts() -> str:
    """The import-linter part of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    return text[text.index("[tool.importlinter]") :]


def test_imports_keep_to_the_layers_and_to_the_doors(tmp_path):
    process = lint(contracts(), tmp_path)
    assert process.returncode == 0, process.stdout


def test_an_import_that_points_up_is_reported(tmp_path):
    upside_down = contracts().replace(
        'layers = ["latentvla", "pipelines", "assets", "ops", "models | storage"]',
        'layers = ["latentvla", "ops", "assets", "pipelines", "models | storage"]',
    )
    assert upside_down != contracts()
    assert lint(upside_down, tmp_path).returncode == 1
