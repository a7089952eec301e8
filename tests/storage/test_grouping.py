"""Rows of one log among the rows of many."""

import numpy as np

from storage.grouping import rows_by_log


def test_each_log_has_its_rows_in_order_whatever_their_order():
    log_id = np.array(["b", "a", "b", "ä", "a", "b"], dtype=object)
    rows = rows_by_log(log_id)
    assert list(rows) == ["a", "b", "ä"]
    assert [list(part) for part in rows.values()] == [[1, 4], [0, 2, 5], [3]]
    assert {name: list(part) for name, part in rows_by_log(log_id.astype(str)).items()} == {
        name: list(part) for name, part in rows.items()
    }


def test_no_rows_are_no_logs():
    assert rows_by_log(np.zeros(0, dtype=object)) == {}
    assert rows_by_log(np.zeros(0, dtype=str)) == {}
