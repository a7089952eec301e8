"""Every verb against arguments, variables and places that it cannot work with: an error for users
that says what to do, exit status 2, never a stack trace, and nothing overwritten.
"""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import COMMANDS, main
from pipelines.environment import SCALES
from pipelines.presets import PRESETS, preset
from storage.lake import Lake
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_pdm import straight

CAPABILITIES_V3, CAP_DAC_OVERRIDE = 0x20080522, 1 << 1  # of linux/capability.h
VERBS = {
    "run": ["run"],
    "status": ["status"],
    "logs": ["logs"],
    "score": ["score"],
    "score PLANS": ["score", "plans.parquet"],
    "show": ["show"],
    "lineage": ["lineage", "student"],
    "sql": ["sql", "select 1"],
    "predict": ["predict", "front.png", "--speed", "5"],
    "ablate": ["ablate"],
    "study": ["study", "unlabelled"],
}
SMOKE = ["--scale", "smoke"]
RUN_ASIDE = ["run", *SMOKE, "--lake", "home/lake"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake, a file of plans, an image, and things that are in the way."""
    folder = tmp_path_factory.mktemp("arguments")
    write_tiny_lake(folder / "lake")
    plan = {"log_id": "log-a", "frame_index": 5, "planner": "p", "dt_s": 0.5}
    poses = {"poses": straight(8.0)[0].ravel().tolist()}
    pq.write_table(pa.Table.from_pylist([plan | poses]), folder / "plans.parquet")
    pq.write_table(pa.Table.from_pylist([plan | poses])[:0], folder / "none.parquet")
    cv2.imwrite(str(folder / "front.png"), np.zeros((60, 100, 3), np.uint8))
    (folder / "cut.png").write_bytes((folder / "front.png").read_bytes()[:-20])
    header = bytearray((folder / "front.png").read_bytes())
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    (folder / "huge.png").write_bytes(header)
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").touch()
    (folder / "file").write_text("a file")
    (folder / "folder.png").mkdir()
    (folder / "folder.html").mkdir()
    (folder / "folder.parquet").mkdir()
    (folder / "nowhere").symlink_to("missing")
    (folder / "link.html").symlink_to("lake/trajectories/log-a/lineage.json")
    (folder / "link.parquet").symlink_to("plans.parquet")
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}")
    for name, text in {
        "torn": "storage: [",
        "strange": "storages: {sqlite: {}}",
        "wrong": "concurrency: {runs: {max_concurrent_runs: many}}",
        "list": "- a\n- b\n",
    }.items():
        (folder / name).mkdir()
        (folder / name / "dagster.yaml").write_text(text)
    return folder


@pytest.fixture
def call(
    world: Path,
    untouched: dict,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator:
    """Runs a command in the world's folder; returns its exit code and errors. No file of the lake
    and no input has changed afterwards.
    """
    monkeypatch.chdir(world)
    monkeypatch.setenv("DAGSTER_HOME", str(world / "home"))
    preset.cache_clear()  # it depends on variables

    def run(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value.replace("{world}", str(world)))
        code = main([word.replace("{world}", str(world)) for word in words])
        error = capsys.readouterr().err
        assert state_of(world) == untouched, "a file has changed"
        assert "Traceback" not in error and ("what to do" in error or "get it with" in error)
        return code, error

    yield run


@pytest.fixture(scope="module")
def untouched(world: Path) -> dict[str, tuple[int, int]]:
    return state_of(world)


def state_of(world: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file and folder, apart from Dagster's own."""
    state = {}
    for folder, folders, files in os.walk(world):
        if folder == str(world):
            folders.remove("home")
        for name in (*folders, *files):
            stat = os.lstat(os.path.join(folder, name))
            state[os.path.join(folder, name)] = (stat.st_size, stat.st_mtime_ns)
    return state


def test_the_scales_and_the_verbs_here_are_all_there_are() -> None:
    assert set(SCALES) == set(PRESETS)
    # config reads no lake; the verbs of other chapters have tests of their own
    assert {words[0] for words in VERBS.values()} <= COMMANDS.keys()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "smok"], "did you mean 'smoke'"),
        (["--source", "nuscene"], "did you mean 'nuscenes'"),
        ([*SMOKE, "--lake", "file"], "found: a file"),
        ([*SMOKE, "--lake", "file/below/it"], "found: a file"),
        ([*SMOKE, "--lake", "nowhere"], "found: a link to nowhere"),
        ([*SMOKE, "--lake", "x" * 300], "File name too long"),
        ([*SMOKE, "--lake", ""], "--lake is empty"),
        (["--scale", " "], "--scale is empty"),
        ([*SMOKE, "--raw", ""], "--raw is empty"),
    ],
)
def test_every_verb_refuses_a_target_that_cannot_be(call, verb, options, message) -> None:
    code, error = call(*VERBS[verb], *options)
    assert code == 2 and message in error


@pytest.mark.parametrize(
    ("variable", "value", "words", "message"),
    [
        ("LATENTVLA_SCALE", "navsin", ["status"], "did you mean 'navsim'"),
        ("LATENTVLA_SCALE", "navsin", ["status"], "where: LATENTVLA_SCALE"),
        ("LATENTVLA_SCALE", "../../etc", ["sql", "select 1"], "no scale '../../etc'"),
        ("LATENTVLA_SCALE", "\x1b[2J", ["config"], r"no scale '\x1b[2J'"),
        ("LATENTVLA_SOURCE", "openscen", ["logs"], "did you mean 'openscene'"),
        ("LATENTVLA_LAKE", "{world}/file", ["score"], "LATENTVLA_LAKE, {world}/file"),
        ("LATENTVLA_LAKE", "{world}/file/x", ["show"], "LATENTVLA_LAKE, {world}/file"),
        ("LATENTVLA_RAW", "{world}/nothing", RUN_ASIDE, "the raw folder does not exist"),
        ("LATENTVLA_RAW", "{world}/file", RUN_ASIDE, "the raw folder does not exist"),
        ("LATENTVLA_NUSCENES", "/no", ["run", "--scale", "navsim", "--raw", "home"], "_NUSCENES"),
        ("LATENTVLA_QWEN", "/no", ["run", "--scale", "navsim", "--raw", "home"], "DINOV2"),
        ("LATENTVLA_DINOV2", "/no", ["run", "--scale", "navsim", "--raw", "home"], "/no"),
        ("DAGSTER_HOME", "home", ["run", *SMOKE], "DAGSTER_HOME names no folder"),
        ("DAGSTER_HOME", "{world}/nothing", ["run", *SMOKE], "DAGSTER_HOME names no folder"),
        ("DAGSTER_HOME", "{world}/file", ["run", *SMOKE], "DAGSTER_HOME names no folder"),
        ("DAGSTER_HOME", "{world}/torn", ["run", *SMOKE], "Dagster's settings cannot be used"),
        ("DAGSTER_HOME", "{world}/strange", ["run", *SMOKE], "Dagster's settings cannot be used"),
        ("DAGSTER_HOME", "{world}/wrong", ["run", *SMOKE], "Dagster's settings cannot be used"),
        ("DAGSTER_HOME", "{world}/list", ["run", *SMOKE], "Dagster's settings cannot be used"),
        ("DAGSTER_HOME", "", ["run", *SMOKE], "dagster.yaml or DAGSTER_HOME"),
    ],
)
def test_variables_with_nonsense_are_named(call, world, variable, value, words, message) -> None:
    code, error = call(*words, environment={variable: value})
    assert code == 2 and message.replace("{world}", str(world)) in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--until", "reprot"], "did you mean 'report'"),
        (["run", "--until", ""], "no asset ''"),
        (["ablate", "--seeds", "0"], "--seeds 1 to 1000"),
        (["ablate", "--seeds", "-3"], "--seeds 1 to 1000"),
        (["ablate", "--seeds", "100000000000"], "--seeds 1 to 1000"),
        (["study", "unlabelled", "--teachers", "0"], "--teachers 1 to 1000"),
        (["study", "unlabelled", "--students", "-1"], "--students 1 to 1000"),
        (["study", "unlabelled", "--students", "100000000000"], "--students 1 to 1000"),
        (["study", "unlabelled", "--scale", "navsim"], "scale 'navsim'"),
        (["study", "unlabelled", "--raw", "home"], "--raw home"),
        (["lineage", "studnet"], "did you mean 'student'"),
        (["lineage", "../home"], "no asset '..'"),
        (["sql", "select 1", "--rows", "-1"], "--rows 0 or more"),
        (["sql", ""], "there is no query"),
        (["sql", "drop view lights"], "a query is one SELECT"),
        (["sql", "copy lights to '{world}/new.csv'"], "a query is one SELECT"),
        (["sql", "select * from read_text('/etc/hostname')"], "disabled"),
        (["sql", "select date '12000-01-01'"], "years from 1 to 9999"),
        (["sql", "select '\x1b[2J' from nothing"], "does not run"),
        (["show", "log-x"], "did you mean"),
        (["show", "../../etc/passwd"], "no log '../../etc/passwd'"),
        (["show", "x" * 5000], "there is no log"),
        (["show", "--frame", "3"], "latentvla show LOG --frame 3"),
        (["show", "log-a", "--frame", "-1"], "has no frame -1"),
        (["show", "log-a", "--frame", "99999999999999999999"], "has no frame"),
        (["show", "log-a", "--out", "log.pdf"], ".html or .png"),
        (["show", "log-a", "--out", "folder.png"], "found: a folder"),
        (["show", "log-a", "--frame", "3", "--out", "folder.html"], "found: a folder"),
        (["show", "log-a", "--out", "file/log.png"], "a file lies where a folder is needed"),
        (["show", "log-a", "--out", "lake/log.html"], "would overwrite"),
        (["show", "log-a", "--out", "x/../lake/trajectories/log.html"], "would overwrite"),
        (["show", "log-a", "--out", "link.html"], "would overwrite"),
        (["show", "log-a", "--out", "/proc/x.html", "--frame", "3"], "cannot be written"),
        (["show", "log-a", "--out", "x" * 300 + ".png"], "File name too long"),
        (["show", "--out", "index.png"], "the index over all logs is a page"),
        (["show", "--out", "folder.html"], "found: a folder"),
        (["show", "--out", "lake/index.html"], "would overwrite"),
        (["show", "--pages", "--out", "lake/new/index.html"], "would overwrite"),
        (["score", "missing.parquet"], "no such file of plans"),
        (["score", "folder.parquet"], "no such file of plans"),
        (["score", "/"], "no such file of plans"),
        (["score", "front.png"], "no Parquet"),
        (["score", "none.parquet"], "no rows"),
        (["score", "plans.parquet", "--versions", "v3"], "v1 or v2"),
        (["score", "plans.parquet", "--expect-split", "tset"], "did you mean 'test'"),
        (["score", "plans.parquet", "--processes", "0"], "found: 0"),
        (["score", "plans.parquet", "--processes", "-2"], "found: -2"),
        (["score", "plans.parquet", "--processes", "1000000"], "found: 1000000"),
        (["score", "plans.parquet", "--out", "plans.parquet"], "would overwrite"),
        (["score", "plans.parquet", "--out", "x/../plans.parquet"], "would overwrite"),
        (["score", "plans.parquet", "--out", "link.parquet"], "would overwrite"),
        (["score", "plans.parquet", "--out", "{world}/lake/scores.csv"], "would overwrite"),
        (["score", "plans.parquet", "--out", "folder.parquet"], "found: a folder"),
        (["score", "plans.parquet", "--out", "file/x.csv"], "a file lies where a folder"),
        (["score", "plans.parquet", "--out", "scores.txt"], ".parquet or .csv"),
        (["score", "lake/plans.parquet"], "would overwrite"),
        (["score", "plans.parquet", "--against-devkit", "file"], "pip install"),
        (["predict", "front.png", "--speed", "1e30"], "--speed from 0 to 70 m/s"),
        (["predict", "front.png", "--speed", "-30"], "--speed from 0 to 70 m/s"),
        (["predict", "front.png", "--speed", "nan"], "found: nan"),
        (["predict", "front.png", "--speed", "inf"], "found: inf"),
        (["predict", "front.png", "--speed", "5", "--acceleration=-1e9"], "--acceleration"),
        (["predict", "front.png", "--speed", "5", "--acceleration", "nan"], "--acceleration"),
        (["predict", "missing.png", "--speed", "5"], "found: no file"),
        (["predict", "folder.png", "--speed", "5"], "found: a folder"),
        (["predict", "/dev/zero", "--speed", "5"], "found: no regular file"),
        (["predict", "text.png", "--speed", "5"], "the image cannot be read"),
        (["predict", "empty.png", "--speed", "5"], "the image cannot be read"),
        (["predict", "cut.png", "--speed", "5"], "the image cannot be read"),
        (["predict", "huge.png", "--speed", "5"], "the image cannot be read"),
        (["predict", "front.png", "--speed", "5", "--model", "home"], "no student"),
        (["predict", "front.png", "--speed", "5", "--model", "missing"], "no student"),
        (["predict", "front.png", "--speed", "5"], "no student"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_an_argument_that_cannot_be_is_answered_with_what_to_do(call, words, message) -> None:
    target = [] if "--scale" in words else SMOKE
    code, error = call(*words, *target, "--lake", "lake")
    assert code == 2 and message in error


@pytest.mark.parametrize("option", ["--seeds=many", "--frame=one", "--rows=1.5", "--speed=fast"])
def test_an_option_of_another_type_is_answered_by_the_parser(option, capsys) -> None:
    verb = {"seeds": "ablate", "frame": "show", "rows": "sql", "speed": "predict"}
    with pytest.raises(SystemExit) as ended:
        main([verb[option[2:].split("=")[0]], option])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "invalid" in error and "Traceback" not in error


@pytest.fixture
def as_a_stranger() -> Iterator[Path]:
    """A folder with a lake that this process may read and not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_lake(folder / "lake")
        (folder / "home").mkdir()
        (folder / "mine").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (folder / "mine").chmod(0o777)
        obey_modes(True)
        try:
            yield folder
        finally:
            obey_modes(False)
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755)


def obey_modes(on: bool) -> None:
    """Take from this thread, if it is root's, the right to write where no mode allows it."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] = sets[0] & ~CAP_DAC_OVERRIDE if on else sets[0] | CAP_DAC_OVERRIDE  # effective
    assert libc.capset(header, sets) == 0


def test_a_lake_of_another_user_can_be_read_and_says_who_may_write(
    as_a_stranger, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(as_a_stranger / "mine")
    lake = Lake(as_a_stranger / "lake")
    monkeypatch.setenv("DAGSTER_HOME", str(as_a_stranger / "home"))
    poses = {"poses": straight(8.0)[0].ravel().tolist()}
    plans = pa.Table.from_pylist([{"log_id": "log-a", "frame_index": 5, "planner": "p"} | poses])
    pq.write_table(plans, "plans.parquet")
    options = [*SMOKE, "--lake", str(lake.root)]
    for words in (
        ["score", "plans.parquet"],
        ["sql", "select count(*) from agents"],
        ["show", "--out", "index.html"],
        ["lineage", "trajectories/log-a"],
    ):
        assert main([*words, *options]) == 0, capsys.readouterr().err
        assert "Traceback" not in capsys.readouterr().err
    for words, message in (
        (["run", "--until", "raw_logs"], "the system refuses a file|history cannot be used"),
        (["score", "plans.parquet", "--out", "../scores.csv"], "the output cannot be written"),
        (["show", "--out", "../index.html"], "the output cannot be written"),
    ):
        assert main([*words, *options]) == 2
        error = capsys.readouterr().err
        assert any(part in error for part in message.split("|")) and "Traceback" not in error
    assert not lake.scenes.exists() and not (lake.root / ".lock").exists()
