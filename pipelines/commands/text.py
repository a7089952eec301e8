"""Tables as plain text for a terminal."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.errors import ConfigError
from storage.printable import printable

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = 100  # of the terminal


def as_argument(name: str) -> str:
    """A name of the data as a person has to type it in a shell: quoted, and after `--` if it looks
    like an option.
    """
    return f"-- {shlex.quote(name)}" if name.startswith("-") else shlex.quote(name)


def table_text(table: "pa.Table", limit: int) -> str:
    """An Arrow table as text, at most `limit` rows. Two columns may have one name.

    Raises ConfigError for a negative limit, and for a date or time that has no year from 1 to 9999.
    """
    if limit < 0:
        raise ConfigError(
            "a number of rows cannot be negative",
            expected="--rows 0 or more",
            found=limit,
            do="leave --rows out for 40 rows",
        )
    shown = table.slice(0, limit)
    columns = [
        [name, *map(_cell, _values(name, shown.column(place)))]
        for place, name in enumerate(table.column_names)
    ]
    if not len(shown):
        text = "  ".join(printable(name, keep="") for name in table.column_names) + "\n(no rows)"
    else:
        text = _columns_text(columns)
    more = f"\n... {len(table) - limit} more of {len(table)} rows" if len(table) > limit else ""
    return text + more


def rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys in columns; columns of numbers are aligned right."""
    if not rows:
        return "(no rows)"
    return _columns_text([[name, *(str(row[name]) for row in rows)] for name in rows[0]])


def _columns_text(columns: Sequence[Sequence[str]]) -> str:
    """Columns of equal length, the head first, side by side."""
    columns = [[printable(word, keep="") for word in column] for column in columns]
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(map(_is_number, column[1:])) for column in columns]

    def line(words: Sequence[str]) -> str:
        return "  ".join(
            word.rjust(width) if is_numeric else word.ljust(width)
            for word, width, is_numeric in zip(words, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join(map(line, zip(*columns, strict=True)))


def _values(name: str, column: "pa.ChunkedArray") -> list[Any]:
    """The values of a column as Python's."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"column '{name}' has values that cannot be printed",
            expected="years from 1 to 9999, and text in UTF-8",
            found=str(error),
            do=f'cast it: select cast("{name}" as varchar) ...',
        ) from error


def _cell(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _is_number(word: str) -> bool:
    return word in ("-", "") or word.replace(".", "", 1).replace("-", "", 1).isdigit()
