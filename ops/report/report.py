"""Put the report together: what the evaluation found, what the planners see and do, how it was
made. Not the drawing of single charts (draw_charts.py) and scenes (draw_scene.py).

It reads finished artefacts only. A section whose input is missing is left out, and the page says
which and why.
"""

from dataclasses import dataclass
from pathlib import Path

from ops.drawing.page import Page, Paragraph, Section, render_page
from ops.report.ablation import ablation_section
from ops.report.config import ReportConfig
from ops.report.results import EvaluationResults, read_results
from ops.report.scenes import scene_sections
from ops.report.scores import (
    latency_section,
    rare_section,
    score_section,
    sight_section,
    tiles,
    unscored_section,
    verdict_section,
)
from ops.report.training import codes_section, curves_section, lineage_section
from ops.report.zero_shot import zero_shot_section
from storage.artifact import LINEAGE_FILE, read_lineage
from storage.lake import Lake


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What the report holds."""

    file: Path
    size_bytes: int
    pictures: int  # scenes shown
    left_out: tuple[str, ...]  # sections without input, each with its reason


def draw(lake: Lake, out: Path, config: ReportConfig) -> ReportSummary:
    """Write `out/report.html`, one file that opens offline. Raises ArtifactError if there is no
    evaluation.
    """
    found = read_results(lake.asset("evaluation"))
    scenes, pictures = scene_sections(lake, found, config.scenes)
    made: list[Section | str | None] = [
        score_section(found),
        verdict_section(found),
        ablation_section(lake),
        rare_section(found),
        sight_section(found),
        zero_shot_section(found),
        latency_section(found),
        *scenes,
        codes_section(lake),
        curves_section(lake),
        lineage_section(lake),
        unscored_section(found),
    ]
    sections = [item for item in made if isinstance(item, Section)]
    left_out = tuple(item for item in made if isinstance(item, str))
    if left_out:
        sections.append(Section("left-out", "Left out", [Paragraph(line) for line in left_out]))
    out.mkdir(parents=True, exist_ok=True)
    file = out / "report.html"
    file.write_text(
        render_page(
            Page(
                title=config.title,
                subtitle=_subtitle(found),
                sections=sections,
                tiles=tiles(found),
                footer=_footer(lake),
            )
        )
    )
    return ReportSummary(file, file.stat().st_size, pictures, left_out)


def _subtitle(found: EvaluationResults) -> str:
    return (
        f"{found.metric_version}, {found.split} split: {found.n_scored} of {found.n_expected} scenes scored, from "
        f"{found.n_logs} logs that no training asset has seen. {len(found.planners)} planners, each on the same "
        "scenes."
    )


def _footer(lake: Lake) -> str:
    folder = lake.asset("evaluation")
    if not (folder / LINEAGE_FILE).exists():
        return "Made by latentvla. One file, no network."
    lineage = read_lineage(folder)
    return (
        f"Evaluation {lineage.version}, made {lineage.created_utc} on "
        f"{lineage.machine.get('platform', 'an unnamed machine')}. Made by latentvla. One file, no network."
    )
