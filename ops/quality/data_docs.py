"""Where the pages of Great Expectations lie: `<lake>/data_docs/<asset>/<version>/<table>.html`,
with a link `latest` beside the versions.

A version is that of the rules and of the logs that were checked; its pages appear together.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from storage.durable import place_link
from storage.lake import Lake

KEPT_VERSIONS = 50  # of an asset; older pages are removed
LATEST = "latest"


def pages_folder(lake: Lake, asset: str) -> Path:
    """Folder of an asset's pages."""
    return lake.root / "data_docs" / asset


def publish_pages(lake: Lake, asset: str, version: str, pages: Mapping[str, str]) -> Path:
    """Write the pages (table -> HTML) of a version, make it the latest, and return its folder.

    Pages of a version that is there already stay.
    """
    folder = pages_folder(lake, asset)
    final, unfinished = folder / version, folder / f".{version}.{os.getpid()}"
    if not final.exists():
        unfinished.mkdir(parents=True, exist_ok=True)
        try:
            for table, page in pages.items():
                (unfinished / f"{table}.html").write_text(page, encoding="utf-8")
            _move(unfinished, final)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    place_link(folder / LATEST, version)
    _remove_old(folder, version)
    return final


def latest_pages(lake: Lake, asset: str) -> dict[str, Path]:
    """table -> page of the logs that were checked last; empty if none were."""
    folder = (pages_folder(lake, asset) / LATEST).resolve()
    return {file.stem: file for file in sorted(folder.glob("*.html"))}


def _move(folder: Path, final: Path) -> None:
    try:
        os.replace(folder, final)
    except OSError:
        if not final.exists():  # else another process has written the same version
            raise


def _remove_old(folder: Path, current: str) -> None:
    versions = [
        item
        for item in folder.iterdir()
        if item.is_dir() and not item.is_symlink() and not item.name.startswith(".")
    ]
    for old in sorted(versions, key=lambda item: item.stat().st_mtime)[:-KEPT_VERSIONS]:
        if old.name != current:
            shutil.rmtree(old, ignore_errors=True)
