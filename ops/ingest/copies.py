"""Finds logs whose files hold the same bytes as those of another log, under another name."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ops.ingest.inventory import Inventory
from storage.sources.contract import LogRef


def find_copies(
    new: Collection[str], inventories: Mapping[str, Inventory], refs: Mapping[str, LogRef]
) -> dict[str, str]:
    """Those of the `new` logs that are copies -> the log that each is a copy of: one that is not
    new, else the first by name.

    Only logs with as many files and bytes as another one are read. Files that several logs share,
    such as maps, do not count; a log with a file that cannot be read is compared with none.
    """
    alike: dict[tuple[int, int], list[str]] = defaultdict(list)
    for log in sorted(inventories, key=lambda log: (log in new, log)):
        if log in refs:
            alike[inventories[log].files, inventories[log].bytes].append(log)
    groups = [logs for logs in alike.values() if len(logs) > 1 and not set(new).isdisjoint(logs)]
    if not groups:
        return {}
    uses = Counter(file for ref in refs.values() for file in ref.files)
    copies = {}
    for logs in groups:
        first: dict[str, str] = {}
        for log in logs:
            content = _content(refs[log], lambda file: uses[file] == 1)
            if content and first.setdefault(content, log) != log and log in new:
                copies[log] = first[content]
    return copies


def _content(ref: LogRef, is_own: Callable[[Path], bool]) -> str:
    """Digests of a log's own files in order; "" if it has none or one cannot be read."""
    files = [*filter(is_own, ref.files), *ref.image_files]
    digests = []
    for file in files:
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        except OSError:
            return ""
        digests.append(digest.hexdigest())
    return " ".join(sorted(digests))
