"""Make the `relabeled` artefact: every row of the trajectories with the codes of its next
transitions. No training.

Legend: N rows, P pairs, K tokens of a transition, R transitions of a row.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ops.latent_actions.config import RelabelConfig
from ops.latent_actions.learn_actions import read_codebook
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError
from storage.trajectory_table import CODES_PER_ROW, RELABELED, write_table


@dataclass(frozen=True, slots=True)
class RelabelSummary:
    """What was labelled."""

    rows: int
    rows_with_all_codes: int
    pairs: int  # frame pairs that were encoded, each once


def relabel(
    rows: FrameSet,
    table: pa.Table,
    codebook: Path,
    codebook_version: str,
    out: Path,
    config: RelabelConfig | None = None,
) -> RelabelSummary:
    """Write `out/relabeled.parquet`: `table` in its order with codes, codes_valid and
    codebook_version.

    `rows` are the same rows in the same order, with images. Raises ArtifactError if they are not,
    or if the images have another size than the codebook's.
    """
    config = config or RelabelConfig()
    _require_same_rows(rows, table)
    model, gap_s = read_codebook(codebook)
    if tuple(rows.images.shape[1:3]) != tuple(model.config.image_hw):
        raise ArtifactError(
            "the images have another size than the codebook's",
            where=codebook,
            expected=tuple(model.config.image_hw),
            found=tuple(rows.images.shape[1:3]),
            do="read the rows with size_hw=config.image_hw",
        )
    tokens = model.config.ego_quantizer.tokens
    if CODES_PER_ROW % tokens:
        raise ConfigError(
            "the transitions of this codebook do not fill a row",
            where=codebook,
            expected=f"a divisor of {CODES_PER_ROW} tokens",
            found=tokens,
        )
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
    codes_PK = torch.cat(encoded).numpy() if encoded else np.zeros((0, tokens), dtype=np.int64)
    codes, valid = chain_codes(pairs, codes_PK, len(rows), CODES_PER_ROW // tokens)
    labelled = {
        "codes": _lists(codes.astype(np.int8)),
        "codes_valid": _lists(valid),
        "codebook_version": pa.array([codebook_version] * len(rows), pa.string()),
    }
    for name, column in labelled.items():
        table = table.append_column(name, column)
    write_table(table, out / "relabeled.parquet", RELABELED)
    return RelabelSummary(len(rows), int(valid.all(axis=1).sum()), len(pairs))


def chain_codes(
    pairs: np.ndarray, codes_PK: np.ndarray, rows: int, transitions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the `transitions` that follow each row, (N, R * K), and where they exist.

    A pair's codes serve every row from which it is reached: the second transition of one row is the
    first of another.
    """
    tokens = codes_PK.shape[1]
    # the last row and the last pair stand for "there is none"
    pair_of = np.full(rows + 1, len(pairs))
    pair_of[pairs[:, 0]] = np.arange(len(pairs))
    later = np.append(pairs[:, 1], rows)
    known = np.concatenate([codes_PK, np.zeros((1, tokens), dtype=codes_PK.dtype)])
    here, codes, valid = np.arange(rows), [], []
    for _ in range(transitions):
        pair = pair_of[here]
        codes.append(known[pair])
        valid.append(np.repeat((pair < len(pairs))[:, None], tokens, axis=1))
        here = later[pair]
    return np.concatenate(codes, axis=1), np.concatenate(valid, axis=1)


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
            "the rows to label are not those of the table",
            found=f"{len(rows)} rows",
            expected=f"{len(table)} rows in the table's order",
            do="make both from one table with frame_set_from_table",
        )
