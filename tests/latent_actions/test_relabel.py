"""Labelling rows with the codes of their next transitions."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.latent_action.config import LatentActionConfig, QuantizerConfig
from models.latent_action.model import LatentActionModel
from ops.latent_actions.config import CodebookConfig, RelabelConfig
from ops.latent_actions.fit_actions import KIND
from ops.latent_actions.relabel import codes_of_rows, relabel
from storage.checkpoint import save_checkpoint
from storage.dataset import FrameSet
from storage.errors import ArtifactError
from storage.trajectory_table import (
    FUTURE_STEPS,
    STEP_S,
    TRAJECTORIES,
    CodeLayout,
    code_layout,
    relabeled_schema,
)
from tests.worlds.ground_world import drive

CONFIG = RelabelConfig(transitions=3, batch=7, threads=1)


@pytest.fixture(scope="module")
def codebook(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codebook")
    torch.manual_seed(0)
    model = LatentActionModel(
        LatentActionConfig(
            image_hw=(32, 48), environment="none", ego_quantizer=QuantizerConfig(warmup_steps=0)
        )
    )
    frames = drive(4, seed=9)
    images = model.observe(torch.from_numpy(frames.images))
    # the first batch initialises the codebook
    model.ego.encode(images[:-1], images[1:], torch.from_numpy(frames.camera[1:]))
    save_checkpoint(
        folder, KIND, {"model": asdict(model.config), "gap_s": 0.5}, model.eval().kept_state()
    )
    return folder, model


def table_of(rows: FrameSet) -> pa.Table:
    """The trajectories table of rows; columns that relabelling does not read are empty."""
    columns = {
        "log_id": rows.log_id,
        "frame_index": rows.frame_index,
        "timestamp_us": rows.timestamp_us,
    }
    blank = {pa.string(): "", pa.bool_(): False}

    def column(field: pa.Field) -> pa.Array:
        if field.name in columns:
            return pa.array(columns[field.name], field.type)
        if pa.types.is_fixed_size_list(field.type):
            item = blank.get(field.type.value_type, 0)
            return pa.array([[item] * field.type.list_size] * len(rows), field.type)
        return pa.array(
            [[] if pa.types.is_list(field.type) else blank.get(field.type, 0)] * len(rows),
            field.type,
        )

    return pa.table([column(field) for field in TRAJECTORIES], schema=TRAJECTORIES)


def relabeled_codes(rows: FrameSet, codebook, out) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    relabel(rows, table_of(rows), codebook[0], "v1", out, CONFIG)
    table = pq.read_table(out / "relabeled.parquet")
    codes = table["codes"].combine_chunks().flatten().to_numpy().reshape(-1, 3, 4)
    valid = (
        table["codes_valid"]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(-1, 3, 4)
    )
    return codes, valid, table


def test_a_row_has_the_codes_of_its_next_three_transitions(codebook, tmp_path):
    rows = drive(3, seed=1, frames=6)
    codes, valid, table = relabeled_codes(rows, codebook, tmp_path)
    layout = CodeLayout(3, 4, 16)
    assert code_layout(table) == layout and table.schema.equals(relabeled_schema(layout))
    assert len(table) == len(rows)
    assert set(table["codebook_version"].to_pylist()) == {"v1"}
    images, camera = torch.from_numpy(rows.images), torch.from_numpy(rows.camera[:1])
    for row in (0, 2, 6, 13):
        for step in range(3):
            exists = row % 6 + step + 1 < 6
            assert (valid[row, step] == exists).all()
            expected = (
                codebook[1].encode(images[[row + step]], images[[row + step + 1]], camera)[0]
                if exists
                else torch.zeros(4)
            )
            assert codes[row, step].tolist() == expected.tolist()


def test_at_ten_frames_a_second_transitions_still_span_half_a_second(codebook, tmp_path):
    rows = drive(1, seed=1, frames=18, hz=10.0)
    codes, valid, _ = relabeled_codes(rows, codebook, tmp_path)
    images = torch.from_numpy(rows.images)
    assert (
        codes[2, 1].tolist()
        == codebook[1]
        .encode(images[[7]], images[[12]], torch.from_numpy(rows.camera[:1]))[0]
        .tolist()
    )
    assert valid[:, :, 0].sum(0).tolist() == [13, 8, 3]
    assert (codes[0, 1] == codes[5, 0]).all(), (
        "the second transition of one row is the first of another"
    )


def test_codes_of_the_defaults_reach_as_far_as_a_plan():
    """Sixteen slots: eight transitions of half a second with two tokens each, 4 s."""
    config, quantizer = RelabelConfig(), LatentActionConfig().ego_quantizer
    assert (config.transitions, quantizer.tokens, quantizer.codes) == (8, 2, 16)
    assert config.transitions * CodebookConfig().gap_s == FUTURE_STEPS * STEP_S
    pairs = np.stack([np.arange(12), np.arange(1, 13)], axis=1)
    codes, valid = codes_of_rows(pairs, pairs[:, :1].repeat(2, axis=1), 13, config.transitions)
    assert codes.shape == (13, 16) and codes[2].reshape(8, 2)[:, 0].tolist() == list(range(2, 10))
    assert valid.reshape(13, 8, 2).sum(axis=1)[:, 0].tolist() == [8] * 5 + [7, 6, 5, 4, 3, 2, 1, 0]


def test_each_pair_is_encoded_once(codebook, tmp_path, monkeypatch):
    encoded = []
    encode = LatentActionModel.encode
    monkeypatch.setattr(
        LatentActionModel,
        "encode",
        lambda self, a, b, c: encoded.append(len(a)) or encode(self, a, b, c),
    )
    summary = relabel(
        *(lambda rows: (rows, table_of(rows)))(drive(3, seed=1, frames=6)),
        codebook[0],
        "v1",
        tmp_path,
        CONFIG,
    )
    assert sum(encoded) == summary.pairs == 3 * 5
    assert summary.rows == 18 and summary.rows_with_all_codes == 3 * 3


def test_codes_of_a_transition_without_an_image_are_invalid(codebook, tmp_path):
    rows = drive(1, seed=1, frames=6)
    rows.has_image[2] = False
    _, valid, _ = relabeled_codes(rows, codebook, tmp_path)
    assert valid[:, :, 0].tolist() == [
        [True, False, False],
        [False] * 3,
        [False] * 3,
        [True, True, False],
        [True, False, False],
        [False] * 3,
    ]


def test_a_table_without_any_pair_keeps_all_rows(codebook, tmp_path):
    codes, valid, table = relabeled_codes(drive(3, seed=1, frames=1), codebook, tmp_path)
    assert len(table) == 3 and not valid.any() and not codes.any()


def test_codes_end_at_a_missing_transition():
    pairs, codes = np.array([[0, 1], [1, 2], [3, 4]]), np.array([[5], [6], [7]])
    row_codes, valid = codes_of_rows(pairs, codes, 5, 3)
    assert row_codes.tolist() == [[5, 6, 0], [6, 0, 0], [0, 0, 0], [7, 0, 0], [0, 0, 0]]
    assert np.array_equal(valid, row_codes > 0)


def test_rows_in_another_order_than_the_table_are_an_error(codebook, tmp_path):
    rows = drive(1, seed=1, frames=4)
    with pytest.raises(ArtifactError, match="differ from those of the table"):
        relabel(rows, table_of(rows).take([1, 0, 2, 3]), codebook[0], "v1", tmp_path, CONFIG)


def test_images_of_another_size_and_a_folder_without_a_codebook_are_errors(codebook, tmp_path):
    rows = drive(1, seed=1, frames=4, image_hw=(48, 48))
    with pytest.raises(ArtifactError, match="another size"):
        relabel(rows, table_of(rows), codebook[0], "v1", tmp_path, CONFIG)
    with pytest.raises(ArtifactError, match="no checkpoint"):
        relabel(rows, table_of(rows), tmp_path, "v1", tmp_path, CONFIG)
