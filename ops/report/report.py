"""Write the report: scores, scenes, latent actions, training curves and lineage as one HTML page.

It reads finished artefacts only. A section whose input is missing is left out, and the page lists
it with the reason.
"""

from dataclasses import dataclass
from pathlib import Path

from ops.drawing.page import Page, Paragraph, Section, page_bytes
from ops.report.ablation import ablation_section
from ops.report.codes import codes_section
from ops.report.comparisons import (
    differences_section,
    image_ablation_section,
    latency_section,
)
from ops.report.config import ReportConfig
from ops.report.lineage import lineage_section
from ops.report.results import EvaluationResults, read_results
from ops.report.scenes import scene_sections
from ops.report.scores import rare_section, score_section, tiles, unscored_section
from ops.report.training import curves_section
from ops.report.zero_shot import zero_shot_section
from storage.artifact import LINEAGE_FILE, read_lineage
from storage.lake import Lake


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """The report file and its contents."""

    file: Path
    size_bytes: int
    pictures: int  # scenes that are shown
    left_out: tuple[str, ...]  # why each missing section is missing


def draw(lake: Lake, out: Path, config: ReportConfig) -> ReportSummary:
    """Write `out/report.html`, one file that opens offline. Raises ArtifactError if there is no
    evaluation.
    """
    results = read_results(lake.asset("evaluation"))
    scenes, pictures = scene_sections(lake, results, config.scenes)
    content: list[Section | str | None] = [
        score_section(results),
        differences_section(results),
        ablation_section(lake),
        rare_section(results),
        image_ablation_section(results),
        zero_shot_section(results),
        latency_section(results),
        *scenes,
        codes_section(lake),
        curves_section(lake),
        lineage_section(lake),
        unscored_section(results),
    ]
    sections = [item for item in content if isinstance(item, Section)]
    left_out = tuple(item for item in content if isinstance(item, str))
    if left_out:
        sections.append(
            Section("left-out", "Missing sections", [Paragraph(line) for line in left_out])
        )
    out.mkdir(parents=True, exist_ok=True)
    file = out / "report.html"
    file.write_bytes(
        page_bytes(
            Page(
                title=config.title,
                subtitle=_subtitle(results),
                sections=sections,
                tiles=tiles(results),
                footer=_footer(lake),
            )
        )
    )
    return ReportSummary(file, file.stat().st_size, pictures, left_out)


def _subtitle(results: EvaluationResults) -> str:
    return (
        f"{results.metric_version}, {results.split} split: {results.n_scored} of "
        f"{results.n_expected} scenes scored, from {results.n_logs} logs that are in no training "
        f"data. {len(results.planners)} planners, all on the same scenes."
    )


def _footer(lake: Lake) -> str:
    folder = lake.asset("evaluation")
    if not (folder / LINEAGE_FILE).exists():
        return "Made by latentvla. One file that opens offline."
    lineage = read_lineage(folder)
    return (
        f"Evaluation {lineage.version}, made {lineage.created_utc} on "
        f"{lineage.machine.get('platform', 'an unknown machine')}. Made by latentvla. One file "
        "that opens offline."
    )
