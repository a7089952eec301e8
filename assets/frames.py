"""AssetSpec 2: the decoded images of each log in a Zarr store, one partition a log."""

from functools import partial

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import per_log_results
from assets.chain.metadata import jpeg_picture, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, ingest, summaries
from assets.chain.pipeline import Pipeline, RawLogs
from assets.raw_logs import raw_logs

# shown of each log
COLUMNS = ("log_id", "frames", "width", "height", "mean_hz", "black", "frozen", "gaps")
MOST_NOTES = 12  # on what a reader had to put right; all of them stand in each log's summary


@dg.asset(
    deps=[raw_logs],
    partitions_def=LOGS,
    backfill_policy=ONE_RUN,
    group_name="ingest",
    kinds={"zarr"},
    owners=["team:data"],
    code_version=code_version("frames"),
)
def frames(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
):
    """Camera images of each log as one sharded Zarr v3 array, uint8 (frame, height, width, RGB),
    with time stamps.

    `frame_index` is the number of the frame in the raw log and is never renumbered. A log that did
    not change is not decoded again; a log with a damaged image is quarantined with its reason.
    """
    from ops.ingest.decode import decode
    from ops.ingest.each_log import make_from_raw_log

    settings = pipeline.preset.frames
    done = ingest(
        context,
        pipeline,
        config,
        "frames",
        lambda log_id, path, lineage: partial(
            make_from_raw_log,
            decode,
            pipeline.source,
            pipeline.raw_folder,
            log_id,
            settings,
            path,
            lineage,
        ),
        RawLogs(pipeline),
    )
    rows = summaries(pipeline, "frames", context.partition_keys)
    put_right = [{"log_id": row["log_id"], "note": note} for row in rows for note in row["notes"]]
    for item in [item for item in put_right if item["log_id"] in done.made][:MOST_NOTES]:
        context.log.info(f"{item['log_id']}: {item['note']}")
    yield from events(
        context,
        "frames",
        done,
        {
            "frames": sum(row["frames"] for row in rows),
            "MB stored": sum(row["stored_bytes"] for row in rows) / 1e6,
            "first frames": contact_sheet(pipeline, [row["log_id"] for row in rows]),
            "logs": table([{name: row[name] for name in COLUMNS} for row in rows], limit=12),
            **({"put right": table(put_right, limit=MOST_NOTES)} if put_right else {}),
        },
        {row["log_id"]: {name: row[name] for name in COLUMNS[1:]} for row in rows},
    )


def contact_sheet(
    pipeline: Pipeline, log_ids: list[str], rows: int = 3, columns: int = 4
) -> dg.MarkdownMetadataValue:
    """The first front image of some logs of the run, evenly chosen, as one picture."""
    from ops.pages.ingest_pictures import contact_sheet_of

    count = min(rows * columns, len(log_ids))
    chosen = [log_ids[place * len(log_ids) // count] for place in range(count)]
    if not chosen:
        return dg.MetadataValue.md("*no log was decoded*")
    sheet = contact_sheet_of([pipeline.lake.log("frames", log) for log in chosen], columns)
    return jpeg_picture(sheet, "first frame of some logs")


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "images_have_one_shape",
            asset="frames",
            blocking=True,
            description="Every log holds a front image, all are of one size and 32 pixels wide or more.",
        ),
        dg.AssetCheckSpec(
            "time_moves_forward",
            asset="frames",
            blocking=True,
            description="Time stamps of the front camera increase from frame to frame.",
        ),
        dg.AssetCheckSpec(
            "no_gaps_in_time",
            asset="frames",
            description="No spacing is far above the log's median.",
        ),
        dg.AssetCheckSpec("no_black_images", asset="frames", description="No image is black."),
        dg.AssetCheckSpec(
            "no_frozen_images", asset="frames", description="No image repeats while the ego moves."
        ),
    ]
)
def frames_checks(pipeline: dg.ResourceParam[Pipeline]):
    """What guards the frames; failed logs are named and recorded, so that training refuses them
    later too.
    """
    from storage.frame_store import frame_info

    made = pipeline.lake.log_ids("frames")
    rows = {row["log_id"]: row for row in summaries(pipeline, "frames", made)}
    info = {log: frame_info(pipeline.lake.log("frames", log)).cameras[0] for log in made}
    backwards = {
        log
        for log, camera in info.items()
        if (camera.timestamp_us[1:] <= camera.timestamp_us[:-1]).any()
    }
    without = {
        log
        for log, camera in info.items()
        if not len(camera.frame_index) or camera.camera.width < 32
    }
    yield from per_log_results(
        pipeline,
        "frames",
        made,
        {
            "images_have_one_shape": (True, without),
            "time_moves_forward": (True, backwards),
            "no_gaps_in_time": (False, {log for log, row in rows.items() if row["gaps"]}),
            "no_black_images": (False, {log for log, row in rows.items() if row["black"]}),
            "no_frozen_images": (False, {log for log, row in rows.items() if row["frozen"]}),
        },
    )
