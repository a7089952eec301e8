"""gc removes what nothing refers to, says what and how many bytes, and leaves the rest."""

import os
import time

import pytest

from pipelines.cli import main
from storage.artifact import planned_lineage, reading, record_checks, verify, write_artifact
from storage.collect import bytes_of, collect
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from storage.promotion import promote, promoted_student, rollback
from storage.version_store import VersionStore
from storage.writers import Writer, this_writer

DAY_S = 86400


def write(lake, name, config="a", **parents):
    lineage = planned_lineage(name, parents, config, "code")
    with write_artifact(lake.root / name, lineage) as out:
        (out / "data").write_text(config * 1000)
    return lineage.version


def left(lake, name):
    return sorted(
        (item / "data").read_text()[0] for item in VersionStore(lake.root / name).versions()
    )


def dead(tag_of="here"):
    here = this_writer()
    return Writer(here.host if tag_of == "here" else "another", here.boot, 4_000_000).tag


@pytest.fixture
def lake(tmp_path):
    """A lake with something of everything that can be left behind."""
    lake = Lake(tmp_path / "lake")
    for config in "abc":
        for name in ("student", "vla", "frames/log", "trajectories/log", "ablation/vla/0"):
            write(lake, name, config)
    write(lake, "frames/gone", "a")
    (lake.root / "frames" / "gone").unlink()
    folder = VersionStore(lake.root / "vla").folder
    for tag in (dead(), dead("elsewhere"), this_writer().tag):
        (folder / f"{'b' * 16}.part-{tag}").mkdir()
    lake.quarantine.mkdir()
    lake.scenes.mkdir()
    for name in ("log-1.json", f".log-1.json.part-{dead()}", ".log-1.4000000", ".keep"):
        (lake.quarantine / name).write_text("{}")
    for name in ("log.arrow", "gone.arrow"):
        (lake.scenes / name).write_text("x")
    made = VersionStore(lake.root / "vla").present().name
    for name in (f"vla-{made}-vlm", f"vla-{'c' * 16}-vlm", f"vla-{'d' * 16}-vlm"):
        (lake.runs / name).mkdir(parents=True)
        (lake.runs / name / "state.pt").write_text("state")
    old = time.time() - 8 * DAY_S
    for item in (lake.runs / f"vla-{'d' * 16}-vlm", lake.runs / f"vla-{'d' * 16}-vlm" / "state.pt"):
        os.utime(item, (old, old))
    return lake


REMOVED = [
    "frames/.versions/gone/",
    ".versions/vla/bbbbbbbbbbbbbbbb.part-",
    "quarantine/.log-1.json.part-",
    "quarantine/.log-1.4000000",
    ".scenes/gone.arrow",
    ".runs/vla-dddddddddddddddd-vlm",
]


def test_a_dry_run_names_everything_and_removes_nothing_then_it_is_removed(lake, capsys):
    before = sorted(lake.root.rglob("*"))
    assert main(["gc", "--dry-run", "--lake", str(lake.root)]) == 0
    dry = capsys.readouterr().out
    assert sorted(lake.root.rglob("*")) == before and "7 would be removed" in dry
    assert all(name in dry for name in REMOVED) and "vla-" in dry
    size = bytes_of(lake.root)
    found = collect(lake)
    assert len(found) == 7 and sum(item.bytes for item in found) > 1000
    assert size - bytes_of(lake.root) >= sum(item.bytes for item in found)
    assert left(lake, "student") == ["b", "c"] and left(lake, "frames/log") == ["c"]
    assert left(lake, "ablation/vla/0") == ["c"] and verify(lake.root / "vla") == []
    assert sorted(item.name for item in lake.quarantine.iterdir()) == [".keep", "log-1.json"]
    assert [item.name for item in lake.runs.iterdir()] == [f"vla-{'c' * 16}-vlm"]
    assert not (lake.root / "frames" / ".versions" / "gone").exists()
    assert len(list(VersionStore(lake.root / "vla").folder.glob("*.part-*"))) == 2
    assert collect(lake) == []


def test_keep_one_removes_the_version_before_unless_it_is_read(lake):
    collect(lake)
    with reading(lake.root / "student"):
        assert {item.path.parent.name for item in collect(lake, keep=1)} == {"student", "vla"}
    assert left(lake, "student") == ["c"] and left(lake, "vla") == ["c"]
    write(lake, "student", "d")
    before = next(
        item
        for item in VersionStore(lake.root / "student").versions()
        if item.resolve() != (lake.root / "student").resolve()
    )
    with reading(before):
        assert collect(lake, keep=1) == [] and before.exists()
    assert len(collect(lake, keep=1)) == 1


def test_gc_refuses_less_than_one_version_and_a_lake_in_use(lake, capsys):
    with pytest.raises(ConfigError, match="always kept"):
        collect(lake, keep=0)
    assert main(["gc", "--keep", "0", "--lake", str(lake.root)]) == 2
    assert "--keep 1 or more" in capsys.readouterr().err
    assert main(["gc", "--lake", str(lake.root / "no" / "lake")]) == 0
    assert not (lake.root / "no").exists()


def evaluated(lake, config):
    """A student with its evaluation, both with checks that passed."""
    version = write(lake, "student", config)
    record_checks(lake.asset("student"), {"onnx_parity": True})
    write(lake, "evaluation", config, student=version)
    record_checks(lake.asset("evaluation"), {"scores_recompute": True})
    return version


def test_a_student_is_promoted_by_its_gates_and_never_removed(tmp_path, capsys):
    lake = Lake(tmp_path)
    words = ["--lake", str(lake.root)]
    assert promoted_student(lake) is None
    assert main(["promote", *words]) == 2 and "no student here" in capsys.readouterr().err
    first = write(lake, "student", "a")
    assert main(["promote", *words]) == 2
    err = capsys.readouterr().err
    assert "no evaluation of this student" in err and "checks of the student were not" in err
    record_checks(lake.asset("student"), {"onnx_parity": False})
    write(lake, "evaluation", "a", student=first)
    with pytest.raises(ArtifactError, match=r"onnx_parity of the student failed; the checks of"):
        promote(lake)
    record_checks(lake.asset("student"), {"onnx_parity": True})
    record_checks(lake.asset("evaluation"), {"scores_recompute": True})
    assert main(["promote", *words]) == 0 and first in capsys.readouterr().out
    folder = promoted_student(lake)
    for config in "bcdef":
        write(lake, "student", config)
    collect(lake, keep=1)
    assert promoted_student(lake) == folder and (folder / "data").read_text()[0] == "a"
    assert left(lake, "student") == ["a", "f"]
    assert (lake.root / "promoted" / "data").read_text()[0] == "a"
    with pytest.raises(ArtifactError, match="no evaluation of this student"):
        promote(lake)


def test_rollback_returns_to_the_student_before_with_its_evaluation(tmp_path, capsys):
    lake = Lake(tmp_path)
    words = ["--lake", str(lake.root)]
    with pytest.raises(ArtifactError, match="no student was promoted here"):
        rollback(lake)
    first = evaluated(lake, "a")
    promote(lake)
    assert main(["rollback", *words]) == 2
    err = capsys.readouterr().err
    assert (
        "no student to return to" in err and f"one promotion, of the present student {first}" in err
    )
    assert "train another one" in err
    second = evaluated(lake, "b")
    with pytest.raises(ArtifactError, match=f"latentvla promote {second}"):
        rollback(lake)
    assert promote(lake, second[:6]).version == second
    for config in "cdef":
        evaluated(lake, config)
    collect(lake, keep=1)
    assert left(lake, "student") == left(lake, "evaluation") == ["a", "b", "f"]
    assert main(["rollback", *words]) == 0 and first in capsys.readouterr().out
    assert (promoted_student(lake) / "data").read_text()[0] == "a"
    with pytest.raises(ArtifactError, match="no student to return to"):
        rollback(lake)
    with pytest.raises(ArtifactError, match="there is no student 'ffff'"):
        promote(lake, "ffff")


def test_a_student_in_a_copy_that_followed_the_links_can_be_promoted(tmp_path):
    import shutil

    version = evaluated(Lake(tmp_path / "lake"), "a")
    promote(Lake(tmp_path / "lake"))
    shutil.copytree(tmp_path / "lake", tmp_path / "copy")
    lake = Lake(tmp_path / "copy")
    assert promote(lake).version == version and (lake.root / "promoted").is_symlink()
    assert not list(lake.root.glob(".promoted*"))
    write(lake, "student", "b")
    assert (promoted_student(lake) / "data").read_text()[0] == "a"


@pytest.mark.parametrize("content", ["", '{"promotions": 3}', '{"promotions": [{"version": 1}]}'])
def test_a_damaged_list_of_promotions_is_named_and_the_promoted_student_stays(
    tmp_path, content, caplog
):
    lake = Lake(tmp_path)
    evaluated(lake, "a")
    promote(lake)
    (tmp_path / ".promotions.json").write_text(content)
    for config in "bcd":
        write(lake, "student", config)
    assert "a" in left(lake, "student") and ".promotions.json" in caplog.text
    assert (promoted_student(lake) / "data").read_text()[0] == "a"
