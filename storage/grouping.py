"""Rows of one log among the rows of many, in time that grows with the rows and not with rows x
logs.
"""

import numpy as np
import pyarrow as pa


def rows_by_log(log_id: np.ndarray) -> dict[str, np.ndarray]:
    """For each log, by name, the numbers of its rows, ascending; `log_id` is (N,) str or object."""
    encoded = pa.array(log_id).dictionary_encode()
    code_N = encoded.indices.to_numpy()
    order_N = np.argsort(code_N, kind="stable")
    first = np.flatnonzero(np.diff(code_N[order_N])) + 1
    parts = np.split(order_N, first) if len(order_N) else []
    rows = dict(zip(encoded.dictionary.to_pylist(), parts, strict=True))
    return {log: rows[log] for log in sorted(rows)}
