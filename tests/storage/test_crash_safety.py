"""An artefact survives a kill at any step of its making, two writers, readers and a full disk."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage import durable, version_store
from storage.artifact import (
    find_lineage,
    is_current,
    planned_lineage,
    read_checks,
    read_lineage,
    reading,
    record_checks,
    verify,
    write_artifact,
)
from storage.errors import ConfigError
from storage.lake import Lake
from storage.version_store import VersionStore
from storage.writers import Writer, is_running, tag_is_running, this_writer

STEPS = ("rename", "replace", "fsync", "symlink", "unlink")


def lineage_of(name="codebook", config="a"):
    return planned_lineage(name, {}, config, "code")


def write(path, content, name="codebook", config="a"):
    lineage = lineage_of(name, config)
    with write_artifact(path, lineage) as out:
        (out / "data").write_text(content)
        (out / "folder").mkdir()
        (out / "folder" / "more").write_text(content)
    return lineage


def in_child(work) -> int:
    """Exit status of a forked process that does `work`; 99 if it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(99)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dying_at(step: int, work):
    """`work` in a process that is killed before its `step`-th call that changes names or syncs."""

    def run():
        count = 0
        for name in STEPS:
            real = getattr(os, name)

            def counted(*args, real=real, **options):
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            setattr(os, name, counted)
        work()

    return run


@pytest.mark.parametrize("config", ["a", "b"], ids=["the same version", "another version"])
def test_a_kill_at_any_step_leaves_the_old_artefact_or_the_new_one(tmp_path, config):
    path, kills, adopted = tmp_path / "codebook", 0, 0
    write(path, "old")
    for step in range(1, 100):
        code = in_child(dying_at(step, lambda: write(path, "new", config=config)))
        content = (path / "data").read_text()
        assert content in ("old", "new") and (path / "folder" / "more").read_text() == content
        assert verify(path) == []
        if code == 99:
            break
        kills += 1
        assert code == -signal.SIGKILL
        if not is_current(path, lineage_of(config=config).version):
            continue
        adopted += config == "b" and content == "old"
        assert (path / "data").read_text() == "new" or config == "a"
    else:
        pytest.fail("the writer never came to its end")
    assert kills >= 10 and (config == "a" or adopted >= 1)
    write(path, "last", config="c")
    left = [item.name for item in VersionStore(path).folder.iterdir() if item.is_dir()]
    assert len(left) <= 2 and not [name for name in left if "part" in name or "removed" in name]


def test_a_run_begins_by_linking_what_a_killed_run_finished(tmp_path):
    path = tmp_path / "vla"
    write(path, "old", "vla")

    def killed_before_the_swap():
        version_store.VersionStore._swap = lambda store: os.kill(os.getpid(), signal.SIGKILL)
        write(path, "new", "vla", "b")

    assert in_child(killed_before_the_swap) == -signal.SIGKILL
    assert (path / "data").read_text() == "old"
    with Lake(tmp_path).lock():
        assert (path / "data").read_text() == "new"
    assert VersionStore(path).waiting() is None and verify(path) == []


def test_a_reader_sees_the_artefact_at_every_moment_while_it_is_made_again(tmp_path):
    path, stop, seen = tmp_path / "codebook", threading.Event(), set()
    write(path, "0")

    def read():
        while not stop.is_set():
            with reading(path) as folder:
                first = (folder / "data").read_text()
                seen.add(first)
                assert (folder / "folder" / "more").read_text() == first
                assert (folder / "lineage.json").exists()

    failures = []
    readers = [threading.Thread(target=lambda: _collect(read, failures)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 12):
        write(path, str(number), config=str(number % 3))
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == [] and len(seen) > 3


def _collect(work, failures):
    try:
        work()
    except BaseException as error:
        failures.append(error)


def test_what_is_being_read_is_not_removed_and_the_next_version_removes_it(tmp_path):
    path = tmp_path / "frames" / "log"
    write(path, "one", "frames/log")
    with reading(path) as folder:
        write(path, "two", "frames/log", config="b")
        write(path, "three", "frames/log", config="c")
        assert (folder / "data").read_text() == "one"
        assert (path / "data").read_text() == "three"
    write(path, "four", "frames/log", config="d")
    assert not folder.exists() and len(VersionStore(path).versions()) == 1


def test_trained_assets_keep_two_versions_and_those_of_a_log_one(tmp_path):
    for config in "abcd":
        write(tmp_path / "student", config, "student", config)
        write(tmp_path / "frames" / "log", config, "frames/log", config)
    kept = {(item / "data").read_text() for item in VersionStore(tmp_path / "student").versions()}
    assert kept == {"c", "d"}
    assert len(VersionStore(tmp_path / "frames" / "log").versions()) == 1


def test_a_full_disk_leaves_the_old_artefact_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "codebook"
    write(path, "old")

    def full(file, *others):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr(version_store, "sync_tree", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, "new", config="b")
    monkeypatch.undo()
    assert (path / "data").read_text() == "old" and not list(tmp_path.rglob("*.part-*"))
    write(path, "new", config="b")
    assert (path / "data").read_text() == "new"


@pytest.mark.parametrize("whole", [True, False], ids=["file system", "file by file"])
def test_everything_is_synced_before_the_link_is_swapped(tmp_path, monkeypatch, whole):
    path, events = tmp_path / "codebook", []
    sync, replace, rename, sync_all = os.fsync, os.replace, os.rename, durable._sync_file_system

    def synced(descriptor):
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def synced_all(folder):
        assert {"lineage.json", "files.json", "data"} <= {item.name for item in folder.iterdir()}
        events.append(("sync", Path("everything")))
        return whole and sync_all(folder)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(durable, "_sync_file_system", synced_all)
    monkeypatch.setattr(
        os, "replace", lambda *a: (events.append(("swap", Path(a[1]))), replace(*a))
    )
    monkeypatch.setattr(os, "rename", lambda *a: (events.append(("made", Path(a[1]))), rename(*a)))
    lineage = write(path, "one")
    made = next(index for index, event in enumerate(events) if event[0] == "made")
    swap = next(index for index, event in enumerate(events) if event == ("swap", path))
    before = {item.name for kind, item in events[:made] if kind == "sync"}
    assert "everything" in before
    if not whole:
        assert {"data", "more", "folder", "lineage.json", "files.json"} <= before
        assert {f"{lineage.version}.json", ".versions", "codebook"} <= before
    assert path.parent / ".versions" / "codebook" in [item for _, item in events[made:swap]]
    assert ("sync", tmp_path) in events[swap:]


SCRIPT = """
import sys
from pathlib import Path
from storage.artifact import planned_lineage, write_artifact
path = Path(sys.argv[1])
with write_artifact(path, planned_lineage(sys.argv[2], {}, None, "other")) as out:
    (out / "data").write_text("other")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def other_writer(path, name="codebook") -> subprocess.Popen:
    """Another process that makes an artefact until a line comes to its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def test_two_processes_cannot_make_one_artefact_and_a_run_waits_for_both(tmp_path):
    lake, path = Lake(tmp_path), tmp_path / "codebook"
    other = other_writer(path)
    try:
        with pytest.raises(ConfigError, match=rf"'codebook'[\s\S]*process {other.pid} on"):
            write(path, "mine")
        with (
            pytest.raises(ConfigError, match=rf"another run[\s\S]*process {other.pid} on"),
            lake.lock(),
        ):
            pass
        write(tmp_path / "vla", "mine", "vla")  # another artefact is free
    finally:
        other.communicate("\n", timeout=30)
    assert other.returncode == 0 and (path / "data").read_text() == "other"
    with lake.lock(), lake.lock(), lake.writing():
        write(path, "mine", config="b")


def test_a_run_keeps_others_out_and_lets_the_processes_that_it_starts_in(tmp_path):
    lake, path = Lake(tmp_path), tmp_path / "codebook"
    words = [sys.executable, "-c", SCRIPT, str(path), "codebook"]
    strangers = {name: value for name, value in os.environ.items() if "HELD" not in name}
    with lake.lock():
        options = {"input": "\n", "text": True, "capture_output": True, "check": False}
        refused = subprocess.run(words, env=strangers, **options)
        assert refused.returncode == 1
        assert "another run is using this lake" in refused.stderr
        assert f"process {os.getpid()} on" in refused.stderr
        child = subprocess.run(words, **options)
        assert child.returncode == 0, child.stderr
    assert (path / "data").read_text() == "other"
    assert subprocess.run(words, env=strangers, **options).returncode == 0


def test_the_records_of_a_lake_inside_a_run_lie_in_the_lake_that_the_run_holds(tmp_path):
    lineage = planned_lineage("town-3/frames", {}, None, "code")
    with Lake(tmp_path).lock(), write_artifact(tmp_path / "towns" / "3" / "log", lineage):
        pass
    assert (tmp_path / ".lineage" / f"{lineage.version}.json").exists()
    inside = sorted(item.name for item in (tmp_path / "towns" / "3").iterdir())
    assert inside == [".versions", "log"]


def test_a_killed_writer_leaves_no_lock_and_no_folder(tmp_path):
    path = tmp_path / "codebook"
    other = other_writer(path)
    other.kill()
    other.communicate()
    assert list(tmp_path.rglob("*.part-*")) and not path.exists()
    write(path, "mine")
    assert not list(tmp_path.rglob("*.part-*")) and (path / "data").read_text() == "mine"


def test_a_lake_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", Path("/proc/no/lake")):
        with (
            pytest.raises(ConfigError, match=r"cannot be written[\s\S]*what to do"),
            Lake(root).lock(),
        ):
            pass


def test_a_writer_of_another_host_is_never_taken_for_dead_and_one_before_a_restart_is(tmp_path):
    here = this_writer()
    elsewhere = Writer("another host", here.boot, here.pid)
    before = Writer(here.host, "another start", here.pid)
    assert is_running(here) and is_running(elsewhere) is None and is_running(before) is False
    assert tag_is_running(here.tag) and tag_is_running("no tag") is None
    assert tag_is_running(str(here.pid)) and tag_is_running("4000000") is False
    path = tmp_path / "codebook"
    folder = VersionStore(path).folder
    for writer in (elsewhere, before, Writer(here.host, here.boot, 4_000_000)):
        (folder / f"{'a' * 16}.part-{writer.tag}").mkdir(parents=True)
    write(path, "one")
    left = [item.name for item in folder.glob("*.part-*")]
    assert left == [f"{'a' * 16}.part-{elsewhere.tag}"]


def test_a_copy_that_followed_the_links_works_and_can_be_renewed(tmp_path):
    lake = tmp_path / "lake"
    write(lake / "codebook", "old")
    write(lake / "frames" / "log", "frames", "frames/log")
    copy = tmp_path / "copy"
    shutil.copytree(lake, copy)  # follows links, as cp -rL
    path = copy / "codebook"
    assert not path.is_symlink() and is_current(path, lineage_of().version) and verify(path) == []
    write(path, "new", config="b")
    assert path.is_symlink() and (path / "data").read_text() == "new"
    contents = {(item / "data").read_text() for item in VersionStore(path).versions()}
    assert contents == {"old", "new"}
    shutil.rmtree(copy / "frames" / ".versions")
    write(copy / "frames" / "log", "again", "frames/log", config="b")
    assert (copy / "frames" / "log" / "data").read_text() == "again"


def test_a_copied_folder_is_renewed_also_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(version_store, "_exchange", lambda one, other: False)
    write(tmp_path / "lake" / "codebook", "old")
    shutil.copytree(tmp_path / "lake", tmp_path / "copy")
    path = tmp_path / "copy" / "codebook"
    write(path, "new", config="b")
    assert path.is_symlink() and (path / "data").read_text() == "new"


def test_a_moved_lake_works(tmp_path):
    write(tmp_path / "lake" / "codebook", "old")
    os.rename(tmp_path / "lake", tmp_path / "moved ü")
    path = tmp_path / "moved ü" / "codebook"
    assert is_current(path, lineage_of().version)
    write(path, "new", config="b")
    assert (path / "data").read_text() == "new"


def test_a_version_of_the_earlier_layout_is_taken_over(tmp_path):
    path = tmp_path / "codebook"
    old = write(path, "old")
    flat = tmp_path / ".versions" / f"codebook-{old.version}"
    os.rename(tmp_path / ".versions" / "codebook" / old.version, flat)
    path.unlink()
    path.symlink_to(Path(".versions") / flat.name)
    assert is_current(path, old.version)
    write(path, "new", config="b")
    assert not flat.exists() and (path / "data").read_text() == "new"
    assert len(VersionStore(path).versions()) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a', b"[]", b"null", b"\xff\xfe", b'{"version": 3}', b"[" * 100_000, None],
    ids=["empty", "cut", "a list", "null", "bytes", "other fields", "nested", "a folder"],
)
def test_a_damaged_lineage_or_record_of_checks_is_named_and_counts_as_missing(
    tmp_path, content, caplog
):
    path = tmp_path / "codebook"
    lineage = write(path, "old")
    record_checks(path, {"sound": True})
    for name in ("lineage.json", "checks.json"):
        file = path / name
        file.unlink()
        if content is None:
            file.mkdir()
        else:
            file.write_bytes(content)
    assert not is_current(path, lineage.version) and find_lineage(path) is None
    assert read_checks(path) == {}
    with pytest.raises(Exception, match=r"lineage of 'codebook' is damaged[\s\S]*latentvla run"):
        read_lineage(path)
    assert verify(path)[0].startswith("lineage.json")
    assert "'lineage.json' is damaged" in caplog.text and str(path) in caplog.text
    if content not in (b'{"version": 3}',):
        assert "'checks.json' is damaged" in caplog.text
    write(path, "new")
    assert is_current(path, lineage.version) and verify(path) == []


def test_fields_of_a_newer_version_do_not_break_an_older_reader(tmp_path):
    path = tmp_path / "codebook"
    lineage = write(path, "old")
    file = path / "lineage.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 9, "colour": ["blue"]}))
    read = read_lineage(path)
    assert read.schema == 9 and read.version == lineage.version and is_current(path, read.version)
