"""A wheel of the project, installed into another environment, works outside the checkout."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentvla
import latentvla.pdm
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_pdm import straight
from tests.worlds.tiny_vla import trained_artifacts

ROOT = Path(__file__).parents[2]


def test_every_public_name_exists_and_is_listed():
    assert {name for name in latentvla.__all__ if not hasattr(latentvla, name)} == set()
    assert {name for name in latentvla.pdm.__all__ if not hasattr(latentvla.pdm, name)} == set()
    assert set(latentvla.__all__) == {*latentvla._HOME, "__version__", "pdm"} == set(dir(latentvla))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = latentvla.no_such_name


def test_importing_the_public_package_loads_no_heavy_library():
    code = "import latentvla, sys; print(sorted({'torch', 'dagster', 'numba'} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], ROOT) == "[]\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that holds the wheel; dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = copy_of_the_sources(folder / "source")
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source]
    run(wheel, folder)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    (built,) = folder.glob("latentvla-*.whl")
    run([*pip, "--python", python, "install", "--no-deps", "--no-index", built], folder)
    site = Path(
        run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    )
    # a plain path: the files *.pth over there, the editable checkout among them, are not read
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def copy_of_the_sources(folder: Path) -> Path:
    """The files that a wheel is built from, so that the build leaves nothing in the checkout."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT).split(
        "\n"
    )
    tops = ("latentvla", "pipelines", "assets", "ops", "models", "storage")
    for name in filter(None, listed):
        if "/" not in name or name.split("/")[0] in tops:
            source, target = ROOT / name, folder / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    return folder


def run(words: list, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_puts_one_package_into_site_packages(installed, tmp_path):
    site = Path(
        run([installed, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    )
    names = {path.name.split("-")[0] for path in site.iterdir() if not path.name.startswith("_")}
    assert names == {"latentvla", "dependencies.pth"}
    origin = run([installed, "-c", "import latentvla; print(latentvla.__file__)"], tmp_path)
    assert Path(origin.strip()) == site / "latentvla" / "__init__.py"


@pytest.mark.slow
def test_the_installed_command_helps_and_scores_a_file_of_plans(installed, tmp_path):
    lake = write_tiny_lake(tmp_path / "lake")
    poses = straight(8.0)[0].ravel().tolist()
    plan = {"log_id": "log-a", "frame_index": 5, "planner": "steady", "poses": poses}
    pq.write_table(pa.Table.from_pylist([plan]), tmp_path / "plans.parquet")
    command = installed.with_name("latentvla")
    assert "score" in run([command, "--help"], tmp_path)
    printed = run([command, "score", "plans.parquet", "--lake", lake.root], tmp_path)
    assert "PDMS (NAVSIM v1.1)" in printed and "steady" in printed


@pytest.mark.slow
def test_the_installed_package_scores_a_plan_and_plans_with_a_student(installed, tmp_path):
    lake = write_tiny_lake(tmp_path / "lake")
    rows = trained_artifacts().val
    np.savez(tmp_path / "rows.npz", images=rows.images[:2], plan=straight(8.0))
    code = f"""
import numpy as np
from latentvla import Lake, Student, read_table
from latentvla.pdm import prepare, scene_from_tables, score

folder = Lake({str(lake.root)!r}).log("trajectories", "log-a")
tables = [read_table(folder, name) for name in ("trajectories", "agents", "lights", "map")]
stored = np.load("rows.npz")
print(score(prepare(scene_from_tables(*tables, 5)), stored["plan"]).score.shape)
student = Student.from_pretrained({str(trained_artifacts().student)!r})
status = np.array([[8.0, 0.0, 0.0, 0.0]] * 2)
print(student.plan(stored["images"], status, ["straight"] * 2).shape)
"""
    assert run([installed, "-c", code], tmp_path) == "(1,)\n(2, 8, 3)\n"
