"""Bytes of the logs with poses alone changed at random: read or refused with a reason.

LATENTVLA_FUZZ=N tries N changes of each source; default: 15.
"""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.ingest.decode import decode
from ops.ingest.each_log import LogWork, each_log
from ops.ingest.extract import extract
from storage.sources import open_source
from storage.sources.contract import LogRef, Source
from tests.storage.test_fuzzed_logs import CHANGES, EXAMPLES, changed
from tests.worlds.tiny_comma2k19 import write_segment
from tests.worlds.tiny_kitti_sequences import write_sequence
from tests.worlds.tiny_video import write_video_log

WORLDS = {
    "comma2k19": write_segment,
    "kitti_odometry": write_sequence,
    "video": write_video_log,
}


def read_whole(source: Source, ref: LogRef, out: Path) -> None:
    log = source.open(ref.log_id)
    decode(log, out / "frames", FrameConfig())
    extract(log, out / "tables", ExtractConfig())


@pytest.mark.parametrize("name", WORLDS)
def test_changed_bytes_are_read_or_refused(tmp_path, name):
    sound = tmp_path / "sound"
    WORLDS[name](sound)
    (ref,) = open_source(name, sound).logs()
    # one of many images stands for all
    files = [*ref.files, ref.image_files[0]]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="LATENTVLA_FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(files), CHANGES)
    def read(file: Path, changes: list) -> None:
        raw, out = tmp_path / "raw", tmp_path / "out"
        for folder in (raw, out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, raw)
        data = file.read_bytes()
        for change in changes:
            data = changed(data, change)
        (raw / file.relative_to(sound)).write_bytes(data)
        source = open_source(name, raw)
        works = [
            LogWork(item.log_id, partial(read_whole, source, item, out)) for item in source.logs()
        ]
        outcomes = list(each_log(works, processes=1))
        errors = [item.error for item in outcomes if item.error] + list(source.refused.values())
        assert len(outcomes) + len(source.refused) == 1
        assert all(ref.log_id in str(error) and "what to do" in str(error) for error in errors)

    read()
