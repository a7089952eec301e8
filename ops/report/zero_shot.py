"""The report's section on the town that was never trained on: open-loop L2 and collisions. Not the
PDM score.
"""

from ops.drawing.names import grouped
from ops.drawing.page import Cell, Paragraph, Section, Table
from ops.evaluation.open_loop import CONVENTIONS, HORIZONS_S
from ops.report.results import EvaluationResults
from ops.report.scores import group_rows


def zero_shot_section(found: EvaluationResults) -> Section | None:
    """L2 and collisions in the town that was never trained on, in both conventions; None if that
    was not tried.
    """
    if found.zero_shot is None or not len(found.zero_shot):
        return None
    table = {
        (row["planner"], row["convention"], row["subset"], row["horizon_s"]): row
        for row in found.zero_shot.to_pylist()
    }
    planners = list(dict.fromkeys(found.zero_shot["planner"].to_pylist()))
    groups = grouped(planners)
    controls = [name for name in planners if not any(name in names for _, names in groups)]
    groups += (
        [("Controls: the same planners without their own images", controls)] if controls else []
    )
    blocks: list[Table | Paragraph] = []
    words = {
        "at": "Error at k seconds (as UniAD reports)",
        "upto": "Mean up to k seconds (as ST-P3 and VAD report)",
    }
    for convention in CONVENTIONS:
        head = [
            "planner",
            *(f"L2 {k}\u00a0s" for k in HORIZONS_S),
            *(f"hits {k}\u00a0s, %" for k in HORIZONS_S),
            "L2 3\u00a0s straight",
            "L2 3\u00a0s turning",
            "rows",
        ]

        def line(name: str, convention: str = convention) -> list[Cell]:
            of = [table[name, convention, "all", k] for k in HORIZONS_S]
            split = [
                table[name, convention, subset, HORIZONS_S[-1]]
                for subset in ("straight", "turning")
            ]
            return [
                *(_metres(row["l2_m"]) for row in of),
                *(
                    Cell("–" if row["collision"] is None else f"{100 * row['collision']:.2f}")
                    for row in of
                ),
                *(_metres(row["l2_m"]) for row in split),
                Cell(f"{of[-1]['n_rows']}, {of[-1]['n_collision']} / {of[-1]['n_expected']}"),
            ]

        blocks += [
            Paragraph(heading=words[convention]),
            Table(
                head,
                group_rows(groups, line),
                "L2 in metres. Hits: rows in which the plan touches another road user. Rows: "
                "those that count for L2 at 3 s, those that count for hits, and all.",
            ),
        ]
    return Section(
        "zero-shot",
        "Another town, never trained on",
        blocks,
        "Open-loop L2 and collision rate on logs in nuScenes' format (the synthetic town B, or nuScenes where its "
        "folder was given). Published tables use two vlm_outputs of 'at k seconds' that differ by almost a factor of "
        "two; both stand here by name. 'At' masks out each pose without a recorded human pose; 'up to' takes only "
        "rows whose 3 s are complete. Poses where the human's own box touches another count in no collision rate; "
        "boxes are turned by the planned heading. Turning: the human is 2 m or more to a side after 3 s.",
    )


def _metres(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{value:.2f}")
