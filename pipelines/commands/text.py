"""Tables as plain text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = 100  # of the terminal


def table_text(table: "pa.Table", limit: int) -> str:
    """An Arrow table as text, at most `limit` rows."""
    rows = [
        {name: _cell(value) for name, value in row.items()}
        for row in table.slice(0, limit).to_pylist()
    ]
    text = rows_text(rows) if rows else "  ".join(table.column_names) + "\n(no rows)"
    more = f"\n... {len(table) - limit} more of {len(table)} rows" if len(table) > limit else ""
    return text + more


def rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys in columns; columns of numbers are aligned right."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    cells = [[str(row[name]) for name in names] for row in rows]
    columns = list(zip(names, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(map(_is_number, column[1:])) for column in columns]

    def line(words: Sequence[str]) -> str:
        return "  ".join(
            word.rjust(width) if is_numeric else word.ljust(width)
            for word, width, is_numeric in zip(words, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join(map(line, [names, *cells]))


def _cell(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _is_number(word: str) -> bool:
    return word in ("-", "") or word.replace(".", "", 1).replace("-", "", 1).isdigit()
