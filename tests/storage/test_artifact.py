"""An artefact is replaced atomically, records its lineage, and changes version with its inputs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.artifact import (
    code_version_of,
    digest,
    is_current,
    planned_lineage,
    read_checks,
    read_lineage,
    record_checks,
    version_of,
    write_artifact,
)
from storage.errors import ArtifactError, ConfigError, SourceError, unknown_name
from storage.lake import Lake
from storage.writers import Writer, this_writer


@dataclass(frozen=True)
class Config:
    steps: int = 3
    folder: Path = Path("a")


def write(path, content, **inputs):
    lineage = planned_lineage(
        "codebook", {"trajectories": inputs.get("parent", "p")}, Config(), "code", seed=1
    )
    with write_artifact(path, lineage) as out:
        (out / "data").write_text(content)
    return lineage


def test_a_finished_artefact_has_its_lineage(tmp_path):
    lineage = write(tmp_path / "codebook", "one")
    read = read_lineage(tmp_path / "codebook")
    assert (tmp_path / "codebook" / "data").read_text() == "one" and is_current(
        tmp_path / "codebook", lineage.version
    )
    assert (
        read.parents == {"trajectories": "p"}
        and read.config == {"steps": 3, "folder": "a"}
        and read.seed == 1
    )
    assert read.created_utc and read.machine["python"]


def test_an_exception_leaves_the_old_artefact_and_nothing_else(tmp_path):
    old = write(tmp_path / "codebook", "one")
    with (
        pytest.raises(RuntimeError),
        write_artifact(tmp_path / "codebook", planned_lineage("codebook", {}, None, "new")) as out,
    ):
        (out / "data").write_text("half")
        raise RuntimeError
    assert (tmp_path / "codebook" / "data").read_text() == "one" and is_current(
        tmp_path / "codebook", old.version
    )
    assert len(list((tmp_path / ".versions").iterdir())) == 1


def test_a_new_version_replaces_the_old_one_and_the_same_version_may_be_made_again(tmp_path):
    write(tmp_path / "codebook", "one")
    write(tmp_path / "codebook", "two")
    assert (tmp_path / "codebook" / "data").read_text() == "two"
    write(tmp_path / "codebook", "three", parent="q")
    assert (tmp_path / "codebook" / "data").read_text() == "three"
    kept = [item for item in (tmp_path / ".versions" / "codebook").iterdir() if item.is_dir()]
    assert sorted((item / "data").read_text() for item in kept) == ["three", "two"]


def test_artefacts_with_a_longer_name_are_not_removed(tmp_path):
    write(tmp_path / "log-1-a", "neighbour")
    write(tmp_path / "log-1", "one")
    write(tmp_path / "log-1", "two", parent="q")
    assert (tmp_path / "log-1-a" / "data").read_text() == "neighbour"


def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_running_one_are_not(tmp_path):
    script = (
        "import os; from pathlib import Path\n"
        "from storage.artifact import planned_lineage, write_artifact\n"
        f"path = Path({str(tmp_path)!r}) / 'codebook'\n"
        "with write_artifact(path, planned_lineage('codebook', {}, None, 'x')) as out:\n"
        "    (out / 'data').write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert not (tmp_path / "codebook").exists() and len(list(tmp_path.rglob("*.part-*"))) == 1
    here = this_writer()
    parent = Writer(here.host, here.boot, os.getppid()).tag
    in_use = tmp_path / ".versions" / "codebook" / f"{'a' * 16}.part-{parent}"
    in_use.mkdir()
    write(tmp_path / "codebook", "one")
    assert list(tmp_path.rglob("*.part-*")) == [in_use]


def test_the_error_of_a_missing_artefact_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ArtifactError, match="latentvla run --until codebook"):
        read_lineage(tmp_path / "codebook")
    with pytest.raises(ArtifactError, match="latentvla run --until frames"):
        read_lineage(Lake(tmp_path).log("frames", "log-1"))
    assert not is_current(tmp_path / "codebook", "x")


BASE = ("codebook", {"a": "1"}, {"steps": 3}, "code", 1)


@pytest.mark.parametrize("index", range(5))
def test_every_input_changes_the_version(index):
    other = ("vla", {"a": "2"}, {"steps": 4}, "edoc", 2)[index]
    assert (
        version_of(*BASE[:index], other, *BASE[index + 1 :])
        != version_of(*BASE)
        == version_of(*BASE)
    )


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())))
def test_the_digest_does_not_depend_on_the_order_of_keys(value):
    assert digest(value) == digest(dict(reversed(value.items()))) and len(digest(value)) == 16


def test_a_comment_does_not_change_the_code_version_and_a_number_does(tmp_path):
    file = tmp_path / "verb.py"

    def version(text):
        file.write_text(text)
        return code_version_of([tmp_path])

    assert version("x = 1") == version("x  =  1   # why\n") != version("x = 2")


def test_outcomes_of_blocking_checks_are_kept_until_others_replace_them(tmp_path):
    write(tmp_path / "trajectories", "one")
    path = tmp_path / "trajectories"
    record_checks(path, {"speed_in_range": True, "key_is_unique": False})
    record_checks(path, {"speed_in_range": False})
    assert read_checks(path) == {"speed_in_range": False, "key_is_unique": False}
    record_checks(path, {"speed_in_range": True, "key_is_unique": True})
    assert read_checks(path) == {"speed_in_range": True, "key_is_unique": True}


def test_a_lake_lists_finished_logs_only(tmp_path):
    lake = Lake(tmp_path)
    write(lake.log("frames", "b"), "x")
    write(lake.log("frames", "a"), "x")
    lake.log("frames", "unfinished").mkdir()
    assert lake.log_ids("frames") == ["a", "b"] and lake.log_ids("trajectories") == []
    assert json.loads((lake.log("frames", "a") / "lineage.json").read_text())["asset"] == "codebook"


def test_errors_have_what_where_and_what_to_do_and_survive_a_process_pool():
    import pickle

    error = SourceError(
        "the image is cut short", where="log a, frame 3", expected=10, found=0, do="copy it again"
    )
    assert str(error) == (
        "the image is cut short\n  where: log a, frame 3\n  expected: 10\n  found: 0\n"
        "  what to do: copy it again"
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is SourceError and str(again) == str(error) and again.found == 0
    assert isinstance(unknown_name("scale", "syntetic", ["smoke", "synthetic"]), ConfigError)
    assert "did you mean 'synthetic'" in str(
        unknown_name("scale", "syntetic", ["smoke", "synthetic"])
    )
    assert "choose one of: smoke, synthetic" in str(
        unknown_name("scale", "xyz", ["smoke", "synthetic"])
    )
