"""Bytes of a log's files changed at random: the log is read or refused with a reason, nothing else
is raised, and a log whose files were not touched is read.

LATENTVLA_FUZZ=N tries N changes of each source; default: 15.
"""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import SourceError
from storage.sources import open_source
from tests.storage.test_malformed_logs import raw_of, read_folder
from tests.worlds.malformed import SOUND, VICTIM

__all__ = ["raw_of"]  # the fixture

EXAMPLES = int(os.environ.get("LATENTVLA_FUZZ", "15"))
PLACE = st.floats(0, 1, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), PLACE, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("insert"), PLACE, st.binary(min_size=1, max_size=64)),
        st.tuples(st.just("cut"), PLACE, st.just(b"")),
        st.tuples(st.just("repeat"), PLACE, st.just(b"")),
        st.tuples(st.just("number"), PLACE, st.sampled_from([b"-1", b"NaN", b"1e308", b"9" * 40])),
    ),
    min_size=1,
    max_size=3,
)


def changed(data: bytes, change: tuple[str, float, bytes]) -> bytes:
    """The bytes after one change at a part of their length."""
    what, place, more = change
    at = int(place * len(data))
    if what in ("set", "number"):
        return data[:at] + more + data[at + len(more) :]
    if what == "insert":
        return data[:at] + more + data[at:]
    return data[:at] if what == "cut" else data + data[at:]


@pytest.mark.parametrize("source", VICTIM)
def test_changed_bytes_are_read_or_refused(raw_of, tmp_path, source):
    refs = open_source(source, raw_of(source, tmp_path / "sound")).logs()
    files_of = {
        ref.log_id: {
            file.relative_to(tmp_path / "sound") for file in (*ref.files, *ref.image_files)
        }
        for ref in refs
    }
    files = sorted(files_of[VICTIM[source]])

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="LATENTVLA_FUZZ" not in os.environ,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.sampled_from(files), CHANGES)
    def try_one(file: Path, changes: list[tuple[str, float, bytes]]) -> None:
        raw, out = tmp_path / "raw", tmp_path / "out"
        for folder in (raw, out):
            shutil.rmtree(folder, ignore_errors=True)
        data = (raw_of(source, raw) / file).read_bytes()
        for change in changes:
            data = changed(data, change)
        (raw / file).unlink()  # a link to the file that all share
        (raw / file).write_bytes(data)
        try:
            read, refused = read_folder(source, raw, out)
        except SourceError:  # what all logs share cannot be read
            assert file in files_of[SOUND[source]]
            return
        assert set(read) | set(refused) >= {VICTIM[source]} or file in files_of[SOUND[source]]
        assert SOUND[source] in read or file in files_of[SOUND[source]]
        assert all("what to do" in str(error) for error in refused.values())

    try_one()
