"""An unreadable log is quarantined with its reason and retried only when its bytes change."""

import json

import pytest

from ops.ingest.inventory import INVENTORY_FILE, read_inventory
from ops.ingest.quarantine import BY_HAND, quarantine, quarantined, release
from storage.errors import ArtifactError, SourceError
from storage.lake import Lake


def test_a_quarantined_log_keeps_its_reason_and_what_it_was_until_it_is_released(tmp_path):
    lake = Lake(tmp_path)
    error = SourceError("the image is cut short", where="log-1, frame 3", do="copy it again")
    quarantine(lake, "log-1", "frames", error, "aaaa")
    assert "frame 3" in quarantined(lake)["log-1"].reason
    assert quarantined(lake)["log-1"].fingerprint == "aaaa"
    release(lake, "log-1")
    assert quarantined(lake) == {}


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
    record = quarantined(lake)["log-1"]
    assert (record.asset, record.fingerprint) == ("frames", "aaaa")


@pytest.mark.parametrize("content", [b"", b'{"log', b"[]", b'{"log_id": "log-1"}', b"\xff", None])
def test_a_damaged_record_ends_nothing_keeps_its_log_out_and_is_named(tmp_path, content, caplog):
    lake = Lake(tmp_path)
    quarantine(lake, "log-2", "frames", SourceError("the image is cut short"), "aaaa")
    file = lake.quarantine / "log-1.json"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    records = quarantined(lake)
    assert set(records) == {"log-1", "log-2"} and records["log-2"].fingerprint == "aaaa"
    assert records["log-1"].fingerprint == BY_HAND and str(file) in records["log-1"].reason
    assert "latentvla release log-1" in records["log-1"].reason and "log-1.json" in caplog.text


@pytest.mark.parametrize("content", ["", '{"log', "[]", '{"log_id": "log-1", "capabilities": 3}'])
def test_a_damaged_inventory_is_an_error_with_its_file(tmp_path, content):
    file = tmp_path / INVENTORY_FILE
    with pytest.raises(ArtifactError, match="no inventory here"):
        read_inventory(tmp_path)
    file.write_text(content)
    with pytest.raises(ArtifactError, match=r"'inventory.json' is damaged[\s\S]*what to do"):
        read_inventory(tmp_path)
