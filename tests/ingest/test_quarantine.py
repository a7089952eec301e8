"""An unreadable log is quarantined with its reason and retried only when its bytes change."""

import json

from ops.ingest.quarantine import is_quarantined, quarantine, quarantined, release
from storage.errors import SourceError
from storage.lake import Lake


def test_a_quarantined_log_keeps_its_reason_and_is_retried_when_its_bytes_change(tmp_path):
    lake = Lake(tmp_path)
    error = SourceError("the image is cut short", where="log-1, frame 3", do="copy it again")
    quarantine(lake, "log-1", "frames", error, "aaaa")
    assert "frame 3" in quarantined(lake)["log-1"].reason
    assert is_quarantined(lake, "log-1", "aaaa")
    assert not is_quarantined(lake, "log-1", "bbbb")
    release(lake, "log-1")
    assert quarantined(lake) == {} and not is_quarantined(lake, "log-1", "aaaa")


def test_a_record_of_an_earlier_version_is_read(tmp_path):
    lake = Lake(tmp_path)
    lake.quarantine.mkdir()
    record = {
        "log_id": "log-1",
        "link": "frames",
        "reason": "the image is cut short",
        "fingerprint": "aaaa",
        "since_utc": "2026-01-01T00:00:00+00:00",
    }
    (lake.quarantine / "log-1.json").write_text(json.dumps(record))
    assert quarantined(lake)["log-1"].asset == "frames"
    assert is_quarantined(lake, "log-1", "aaaa")
