"""A log that cannot be read is quarantined with its reason and tried again only when its bytes
change.
"""

from ops.ingest.quarantine import is_quarantined, quarantine, quarantined, release
from storage.errors import SourceError
from storage.lake import Lake


def test_a_quarantined_log_keeps_its_reason_and_is_tried_again_when_its_bytes_change(tmp_path):
    lake = Lake(tmp_path)
    error = SourceError("the image is cut short", where="log-1, frame 3", do="copy it again")
    quarantine(lake, "log-1", "frames", error, "aaaa")
    assert "frame 3" in quarantined(lake)["log-1"].reason
    assert is_quarantined(lake, "log-1", "aaaa")
    assert not is_quarantined(lake, "log-1", "bbbb")
    release(lake, "log-1")
    assert quarantined(lake) == {} and not is_quarantined(lake, "log-1", "aaaa")
