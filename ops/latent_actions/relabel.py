"""Make the `relabeled` artefacts: the rows of `trajectories` with codes of their next transitions.

Legend: N rows, P pairs, K tokens of a transition, R transitions of a row.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.latent_action.model import LatentActionModel
from ops.latent_actions.config import RelabelConfig
from ops.latent_actions.learn_actions import read_codebook
from storage.artifact import Lineage, write_artifact
from storage.dataset import FrameSet, frame_set_from_table, read_rows
from storage.errors import ArtifactError
from storage.lake import Lake
from storage.trajectory_table import CodeLayout, relabeled_schema, write_table


@dataclass(frozen=True, slots=True)
class RelabelSummary:
    """Counts of a relabelling."""

    rows: int
    rows_with_all_codes: int
    pairs: int  # encoded frame pairs


def relabel_logs(
    lake: Lake,
    lineages: Mapping[str, Lineage],
    codebook: Path,
    codebook_version: str,
    config: RelabelConfig,
) -> Iterator[RelabelSummary]:
    """Make `relabeled/<log>` of each of these logs, whose lineages are given, and yield its counts.

    The codebook is opened once. No pair of one log shares a forward pass with a pair of another, so
    the codes of a log do not depend on which others there are. Raises what relabel() raises.
    """
    model, gap_s = read_codebook(codebook)
    for log, lineage in lineages.items():
        table = read_rows(lake, log_ids=[log])
        rows = frame_set_from_table(table, lake, model.config.image_hw)
        with write_artifact(lake.log("relabeled", log), lineage) as out:
            summary = _relabel(rows, table, (model, gap_s), codebook_version, out, config)
        yield summary


def relabel(
    rows: FrameSet,
    table: pa.Table,
    codebook: Path,
    codebook_version: str,
    out: Path,
    config: RelabelConfig | None = None,
) -> RelabelSummary:
    """Write `out/relabeled.parquet`: `table` with the columns codes, codes_valid and
    codebook_version.

    `rows` are the rows of `table` in the same order, with images; `codebook` is the folder of a
    codebook. Raises ArtifactError if the rows differ, if the images have another size than the
    codebook's, or if there is no codebook.
    """
    _require_same_rows(rows, table)
    model, gap_s = read_codebook(codebook)
    if tuple(rows.images.shape[1:3]) != tuple(model.config.image_hw):
        raise ArtifactError(
            "the images have another size than the codebook's images",
            where=codebook,
            expected=tuple(model.config.image_hw),
            found=tuple(rows.images.shape[1:3]),
            do="read the rows with size_hw=config.image_hw",
        )
    opened = (model, gap_s)
    return _relabel(rows, table, opened, codebook_version, out, config or RelabelConfig())


def _relabel(
    rows: FrameSet,
    table: pa.Table,
    codebook: tuple[LatentActionModel, float],
    codebook_version: str,
    out: Path,
    config: RelabelConfig,
) -> RelabelSummary:
    """relabel() with an open codebook, the model and its gap in seconds."""
    model, gap_s = codebook
    quantizer = model.config.ego_quantizer
    layout = CodeLayout(config.transitions, quantizer.tokens, quantizer.codes)
    codes, valid, pairs = encode_rows(rows, model, gap_s, config)
    columns = {
        "codes": _lists(codes.astype(np.int16)),
        "codes_valid": _lists(valid),
        "codebook_version": pa.array([codebook_version] * len(rows), pa.string()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    write_table(table, out / "relabeled.parquet", relabeled_schema(layout))
    return RelabelSummary(len(rows), int(valid.all(axis=1).sum()), pairs)


def encode_rows(
    rows: FrameSet, model: LatentActionModel, gap_s: float, config: RelabelConfig
) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes (N, R * K) int64 of each row's next transitions, a mask (N, R * K) of those that exist,
    and the number of encoded pairs.

    `rows` hold every frame of their logs, with images of the codebook's size; `model` and `gap_s`
    from read_codebook().
    """
    torch.set_num_threads(config.threads)
    model.to(config.device)
    pairs = rows.pairs(gap_s)
    encoded = [
        model.encode(
            *(
                torch.from_numpy(array[part[:, side]]).to(config.device)
                for array, side in ((rows.images, 0), (rows.images, 1), (rows.camera, 0))
            )
        ).cpu()
        for part in np.split(pairs, range(config.batch, len(pairs), config.batch))
        if len(part)
    ]
    tokens = model.config.ego_quantizer.tokens
    codes_PK = torch.cat(encoded).numpy() if encoded else np.zeros((0, tokens), dtype=np.int64)
    return *codes_of_rows(pairs, codes_PK, len(rows), config.transitions), len(pairs)


def codes_of_rows(
    pairs: np.ndarray, codes_PK: np.ndarray, rows: int, transitions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the `transitions` that follow each row, and a mask of those that exist, (N, R * K).

    `pairs` (P, 2) are the row numbers of the earlier and the later frame, `codes_PK` their codes,
    `rows` is N. The second transition of a row is the first one of the row that its first pair
    leads to.
    """
    tokens = codes_PK.shape[1]
    # row number `rows` and pair number `len(pairs)` mean "none"
    pair_of = np.full(rows + 1, len(pairs))
    pair_of[pairs[:, 0]] = np.arange(len(pairs))
    later = np.append(pairs[:, 1], rows)
    codes_or_zeros = np.concatenate([codes_PK, np.zeros((1, tokens), dtype=codes_PK.dtype)])
    current, codes, valid = np.arange(rows), [], []
    for _ in range(transitions):
        pair = pair_of[current]
        codes.append(codes_or_zeros[pair])
        valid.append(np.repeat((pair < len(pairs))[:, None], tokens, axis=1))
        current = later[pair]
    return np.concatenate(codes, axis=1), np.concatenate(valid, axis=1)


def lost_rows(lake: Lake, log_id: str) -> int:
    """Rows of a log's trajectories that have no relabeled row, or the other way round; reads no
    row.
    """
    rows = [
        pq.read_metadata(lake.log(asset, log_id) / f"{asset}.parquet").num_rows
        for asset in ("trajectories", "relabeled")
    ]
    return abs(rows[0] - rows[1])


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _require_same_rows(rows: FrameSet, table: pa.Table) -> None:
    same = (
        len(rows) == len(table)
        and np.array_equal(table["frame_index"].to_numpy(), rows.frame_index)
        and np.array_equal(table["log_id"].to_numpy(), rows.log_id)
    )
    if not same:
        raise ArtifactError(
            "the rows to label differ from those of the table",
            found=f"{len(rows)} rows",
            expected=f"the {len(table)} rows of the table, in its order",
            do="make the rows from the same table with frame_set_from_table",
        )
