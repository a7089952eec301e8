"""The report's lineage section: version, parents, seed and time of every artefact."""

from ops.drawing.page import Cell, Row, Section, Table
from storage.artifact import LINEAGE_FILE, Lineage, read_lineage
from storage.asset_names import ASSET_NAMES, PER_LOG_ASSETS
from storage.lake import Lake


def lineage_section(lake: Lake) -> Section | str:
    """One row per asset; or the reason why there is none."""
    rows = [_row(asset, lineages) for asset in ASSET_NAMES if (lineages := _lineages(lake, asset))]
    if not rows:
        return "Lineage: no artefact of this lake has a lineage file"
    table = Table(
        ["artefact", "parts", "version", "code", "seed", "seconds", "made (UTC)", "parents"],
        rows,
        "A version is the hash of everything that can change an artefact: parents, configuration, "
        "code and seed. `latentvla lineage student` prints the whole tree.",
    )
    return Section("lineage", "Lineage", [table])


def _row(asset: str, lineages: list[Lineage]) -> Row:
    first = lineages[0]
    parents: dict[str, list[str]] = {}
    for name, version in first.parents.items():
        parents.setdefault(name.split("/")[0], []).append(version)
    parent_text = ", ".join(
        f"{name} of {len(versions)} logs" if len(versions) > 1 else f"{name} {versions[0][:8]}"
        for name, versions in parents.items()
    )
    made_utc = max(item.created_utc for item in lineages).replace("T", " ").replace("+00:00", "")
    return Row(
        [
            Cell(asset),
            Cell(f"{len(lineages)} logs" if asset in PER_LOG_ASSETS else "1"),
            Cell(first.version if len(lineages) == 1 else f"{first.version} …"),
            Cell(first.code_version[:8]),
            Cell("–" if first.seed is None else str(first.seed)),
            Cell(f"{sum(item.seconds for item in lineages):.1f}"),
            Cell(made_utc),
            Cell(parent_text or "raw logs", left=True),
        ]
    )


def _lineages(lake: Lake, asset: str) -> list[Lineage]:
    folders = (
        [lake.log(asset, log) for log in lake.log_ids(asset)]
        if asset in PER_LOG_ASSETS
        else [lake.asset(asset)]
    )
    return [read_lineage(folder) for folder in folders if (folder / LINEAGE_FILE).exists()]
