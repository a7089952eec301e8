"""Tests of the vision-language model with code slots: equal to Hugging Face's class in its hidden
states, logits, positions and files.
"""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from models.vlm import HEAD_FILE, STATUS_TOKENS, ActionVlm
from models.vlm_config import BevImageConfig
from models.vlm_inputs import VlmInputs, VlmProcessor, prompts, rope_positions
from ops.vla.vlm import VlmRows, run_vlm, vlm_inputs
from storage.errors import ConfigError
from tests.worlds.tiny_vla import SMALL_VLM, tiny_frames

SLOTS, CODES = SMALL_VLM.slots, SMALL_VLM.codes


def built(bev: BevImageConfig | None = SMALL_VLM.bev) -> ActionVlm:
    torch.manual_seed(0)
    return ActionVlm.build(replace(SMALL_VLM, bev=bev)).eval()


@pytest.fixture(scope="module", params=["one image", "two images"])
def vlm(request) -> ActionVlm:
    return built(None if request.param == "one image" else SMALL_VLM.bev)


def rows_of(count: int, seed: int = 0) -> VlmRows:
    """Rows with all nine numbers of the ego status."""
    status = tiny_frames(1, count, seed).motion_status
    status[:, [1, 2, 3, 8]] = np.random.default_rng(seed).normal(size=(count, 4))
    return replace(VlmRows.of(tiny_frames(1, count, seed)), status=status)


@pytest.fixture(params=["equal prompts", "one long prompt"])
def rows(request) -> VlmRows:
    """A batch without and one with padding."""
    rows = rows_of(3)
    if request.param == "one long prompt":
        rows.status[1, 2] = -12.5
    return rows


@pytest.fixture
def batch(vlm, rows) -> tuple[VlmInputs, torch.Tensor]:
    inputs, status = vlm_inputs(vlm, rows)
    assert bool(inputs.pad_B.any()) == (rows.status[1, 2] == -12.5)
    return inputs, status


def class_arguments(
    vlm: ActionVlm, inputs: VlmInputs, ids_BL: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Arguments of the Hugging Face class's forward for left-padded token ids that begin with the
    prompt of `inputs`.
    """
    index = torch.arange(ids_BL.shape[1])[None]
    return {
        "input_ids": ids_BL,
        "attention_mask": (index >= inputs.pad_B[:, None]).long(),
        "pixel_values": inputs.pixels,
        "image_grid_thw": inputs.grid_thw_I3,
        "mm_token_type_ids": (ids_BL == vlm.processor.image_pad).long(),
    }


def with_words_for_slots(vlm: ActionVlm, words: torch.Tensor) -> ActionVlm:
    """A copy whose status tokens and slot queries are the embeddings of these token ids whatever
    the status: the class then has the same input as plain token ids.
    """
    spoken = deepcopy(vlm)
    words_ED = spoken.model.get_input_embeddings()(words).detach()
    with torch.no_grad():
        for projection in (spoken.status_tokens, spoken.status_queries):
            projection[-1].weight.zero_()
            projection[-1].bias.zero_()
        spoken.status_tokens[-1].bias.copy_(words_ED[:STATUS_TOKENS].flatten())
        spoken.slot_queries_SD.copy_(words_ED[STATUS_TOKENS:])
    return spoken


def test_any_text_is_encoded_without_loss_and_a_code_is_one_token():
    processor = VlmProcessor.build(16)
    tokenizer = processor.tokenizer
    for text in ("straight v=08.1 a=-0.3", "Zürich → 東京 \t\n<|", "<ACT_3><ACT_15>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<ACT_3><ACT_15>")["input_ids"] == [
        processor.first_action + 3,
        processor.first_action + 15,
    ]


def test_prompts_hold_command_speed_and_acceleration_and_have_equal_length():
    frames = tiny_frames(1, 6)
    texts = prompts(frames.motion_status)
    assert len({len(text) for text in texts}) == 1
    assert texts[0] == f"straight v={frames.velocity[0, 0]:04.1f} a=+0.0"


def test_patches_are_bit_equal_to_those_of_the_image_processor():
    processor, images = VlmProcessor.build(16), tiny_frames(1, 3).images
    views = [torch.from_numpy(images), torch.from_numpy(images[:, :28, 28:84].copy())]
    inputs = processor(views, ["left"] * 3, room=0)
    in_row_order = [view[row].numpy() for row in range(3) for view in views]
    expected = processor.image_processor(images=in_row_order, do_resize=False, return_tensors="pt")
    assert torch.equal(inputs.pixels, expected["pixel_values"])
    assert torch.equal(inputs.grid_thw_I3, expected["image_grid_thw"])


def test_rotary_positions_equal_those_of_the_hugging_face_class(vlm, batch):
    inputs, _ = batch
    words = torch.full((3, vlm.tokens_after_prompt), vlm.processor.first_action)
    arguments = class_arguments(vlm, inputs, torch.cat([inputs.input_ids_BL, words], dim=1))
    expected, _ = vlm.model.model.get_rope_index(
        arguments["input_ids"],
        arguments["mm_token_type_ids"],
        arguments["image_grid_thw"],
        attention_mask=arguments["attention_mask"],
    )
    length = arguments["input_ids"].shape[1]
    assert inputs.positions_3T.shape == (3, length)
    for row, pad in enumerate(inputs.pad_B.tolist()):
        assert torch.equal(expected[:, row, pad:], inputs.positions_3T[:, : length - pad])


def test_positions_of_the_text_after_an_image_continue_from_its_larger_side():
    assert rope_positions([2], [(1, 3)], 7).tolist() == [
        [0, 1, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 5, 6],
        [0, 1, 2, 3, 4, 5, 6],
    ]
    assert rope_positions([1, 4], [(1, 2), (2, 1)], 7).tolist() == [
        [0, 1, 1, 3, 4, 4, 6],
        [0, 1, 1, 3, 4, 5, 6],
        [0, 1, 2, 3, 4, 4, 6],
    ]


def test_hidden_states_of_the_prompt_equal_those_of_the_hugging_face_class(vlm, batch, tmp_path):
    inputs, _ = batch
    vlm.save(tmp_path)
    reference = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        states_BLD = vlm._run(inputs, vlm._embed(inputs))
        expected_BLD = reference.model(
            **class_arguments(vlm, inputs, inputs.input_ids_BL)
        ).last_hidden_state
    is_token_BL = torch.arange(states_BLD.shape[1]) >= inputs.pad_B[:, None]
    assert torch.allclose(states_BLD[is_token_BL], expected_BLD[is_token_BL], atol=1e-5)


def test_one_pass_equals_the_hugging_face_class_with_words_in_place_of_the_slots(
    vlm, batch, tmp_path
):
    inputs, status = batch
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(200, (vlm.tokens_after_prompt,), generator=generator)
    spoken = with_words_for_slots(vlm, words)
    spoken.save(tmp_path)
    reference = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    ids_BL = torch.cat([inputs.input_ids_BL, words.expand(3, -1)], dim=1)
    with torch.no_grad():
        expected = reference(**class_arguments(vlm, inputs, ids_BL), output_hidden_states=True)
    predicted, hidden_BLD = spoken.predict(inputs, status), expected.hidden_states[-1]
    assert torch.allclose(predicted.action_BSD, hidden_BLD[:, -SLOTS:], atol=1e-5)
    visual = hidden_BLD[ids_BL == vlm.processor.image_pad]
    assert torch.allclose(predicted.visual_BVD.flatten(0, 1), visual, atol=1e-5)
    first = vlm.processor.first_action
    logits_BSK = expected.logits[:, -SLOTS:, first : first + CODES]
    assert torch.allclose(predicted.logits_BSK, logits_BSK, atol=1e-5)


def test_a_prediction_is_the_most_likely_code_of_each_slot_of_the_forward_pass(vlm, batch):
    predicted, visual = vlm.predict(*batch), 8 if vlm.bev is None else 12
    with torch.no_grad():
        assert torch.equal(vlm(*batch), predicted.logits_BSK)
    assert predicted.logits_BSK.shape == (3, SLOTS, CODES)
    assert torch.equal(predicted.codes_BS, predicted.logits_BSK.argmax(dim=-1))
    assert predicted.action_BSD.shape == (3, SLOTS, 32)
    assert predicted.visual_BVD.shape == (3, visual, 32)


def test_all_slots_take_one_pass_of_vision_tower_and_language_model(vlm, batch):
    lengths, image_calls = [], []
    layer, vision = vlm.model.model.language_model.layers[0], vlm.model.model.visual
    hooks = [
        layer.register_forward_pre_hook(lambda _, arguments: lengths.append(arguments[0].shape[1])),
        vision.register_forward_pre_hook(lambda *_: image_calls.append(1)),
    ]
    vlm.predict(*batch)
    for hook in hooks:
        hook.remove()
    assert lengths == [batch[0].input_ids_BL.shape[1] + STATUS_TOKENS + SLOTS]
    assert image_calls == [1]


def test_a_slot_does_not_see_the_slots_after_it(vlm, batch):
    changed = deepcopy(vlm)
    with torch.no_grad():
        changed.slot_queries_SD[7:] += 1.0
    before, after = vlm.predict(*batch), changed.predict(*batch)
    assert torch.equal(before.logits_BSK[:, :7], after.logits_BSK[:, :7])
    differs_S = (before.logits_BSK != after.logits_BSK)[:, 7:].flatten(2).any(dim=2)
    assert differs_S.all() and torch.equal(before.visual_BVD, after.visual_BVD)


def test_rows_of_a_batch_do_not_influence_each_other(vlm, rows):
    together = run_vlm(vlm, rows, batch=3)
    for row in range(3):
        alone = run_vlm(vlm, rows.take(slice(row, row + 1)))
        assert np.allclose(together.code_logits[row], alone.code_logits[0], atol=1e-2)
        assert np.allclose(together.action[row], alone.action[0], atol=1e-2)
        assert np.allclose(together.visual[row], alone.visual[0], atol=1e-2)
        others = np.delete(np.arange(3), row)
        assert not np.allclose(
            together.code_logits[row], together.code_logits[others[0]], atol=1e-2
        )


@pytest.mark.parametrize("number", range(9))
def test_each_number_of_the_ego_status_changes_every_slot_but_no_visual_state(vlm, number):
    rows = rows_of(2)
    other = replace(rows, status=rows.status.copy())
    other.status[:, number] += 0.01  # too little for the words of the prompt
    one, two = (vlm.predict(*vlm_inputs(vlm, both)) for both in (rows, other))
    assert torch.equal(one.visual_BVD, two.visual_BVD)
    assert (one.logits_BSK != two.logits_BSK).any(dim=-1).all()


def test_the_second_image_changes_the_prediction():
    vlm, rows = built(), rows_of(2)
    raised = replace(rows, camera=rows.camera.copy())
    raised.camera[:, 7] += 0.5  # another calibration: the same image lies elsewhere on the ground
    one, two = (vlm.predict(*vlm_inputs(vlm, both)) for both in (rows, raised))
    assert torch.equal(one.visual_BVD[:, :8], two.visual_BVD[:, :8])
    assert not torch.allclose(one.visual_BVD[:, 8:], two.visual_BVD[:, 8:], atol=1e-3)
    assert not torch.equal(one.logits_BSK, two.logits_BSK)


def test_a_smaller_front_image_has_fewer_tokens_and_the_ground_is_laid_out_as_before(tmp_path):
    torch.manual_seed(0)
    vlm, rows = ActionVlm.build(replace(SMALL_VLM, front_hw=(28, 56))).eval(), rows_of(2)
    whole, _ = vlm_inputs(built(), rows)
    small, status = vlm_inputs(vlm, rows)
    assert whole.grid_thw_I3.tolist() == 2 * [[1, 4, 8], [1, 4, 4]]
    assert small.grid_thw_I3.tolist() == 2 * [[1, 2, 4], [1, 4, 4]]
    ground = (part.pixels.unflatten(0, (2, -1))[:, -16:] for part in (whole, small))
    assert torch.equal(*ground)
    vlm.save(tmp_path)
    loaded = ActionVlm.from_pretrained(tmp_path).eval()
    assert loaded.front_hw == (28, 56)
    again, _ = vlm_inputs(loaded, rows)
    assert torch.equal(
        vlm.predict(small, status).logits_BSK, loaded.predict(again, status).logits_BSK
    )


@pytest.mark.parametrize("front_hw", [(56, 56), (112, 224)])
def test_a_front_image_of_another_ratio_or_larger_than_what_is_read_is_refused(front_hw):
    vlm = ActionVlm.build(replace(SMALL_VLM, front_hw=front_hw))
    with pytest.raises(ConfigError, match="front_hw"):
        vlm_inputs(vlm, rows_of(1))  # images of 56 x 112


def test_muon_takes_the_matrices_of_the_blocks_and_no_embedding_or_head(vlm):
    taken = {id(matrix) for matrix in vlm.hidden_matrices()}
    names = {name for name, value in vlm.named_parameters() if id(value) in taken}
    assert len(names) == len(taken)
    assert any("language_model.layers.0.self_attn.q_proj" in name for name in names)
    assert any("visual.blocks.0.mlp" in name for name in names)
    for left in ("embed", "lm_head", "status", "action_rows", "slot_queries", "norm"):
        assert not any(left in name for name in names), left


def test_it_saves_a_plain_qwen_checkpoint_and_loads_the_same_bits(vlm, batch, tmp_path):
    vlm.save(tmp_path)
    # the saved numbers and second image apply, not those of the call
    loaded = ActionVlm.from_pretrained(tmp_path, codes=3, slots=5, bev=BevImageConfig()).eval()
    before, after = vlm.predict(*batch), loaded.predict(*batch)
    for name in ("codes_BS", "logits_BSK", "action_BSD", "visual_BVD"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert (loaded.slots, loaded.bev, loaded.processor.codes) == (SLOTS, vlm.bev, CODES)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(plain).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert (
        AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("<ACT_15>")
        == vlm.processor.first_action + 15
    )
    first = vlm.processor.first_action
    table = plain.get_input_embeddings().weight[first : first + CODES]
    assert torch.equal(table, vlm.action_rows_KD)


def published(vlm: ActionVlm, folder: Path) -> Path:
    """A folder as weights are published: without slots, status projections and their numbers."""
    vlm.save(folder)
    (folder / HEAD_FILE).unlink()
    config = json.loads((folder / "config.json").read_text())
    kept = {name: value for name, value in config.items() if not name.startswith("action_")}
    assert len(config) - len(kept) >= 2
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def test_published_weights_are_used_with_the_configured_slots_and_a_new_head(vlm, batch, tmp_path):
    inputs, status = batch
    folder = published(vlm, tmp_path)
    # the folder's sizes apply, not the configuration's
    config = replace(SMALL_VLM, pretrained=str(folder), hidden=999, slots=5, bev=vlm.bev)
    torch.manual_seed(3)
    loaded = ActionVlm.build(config).eval()
    assert (loaded.slots, loaded.bev) == (5, vlm.bev)
    with torch.no_grad():
        ours, theirs = (model._run(inputs, model._embed(inputs)) for model in (vlm, loaded))
    assert torch.equal(ours, theirs)
    assert not torch.equal(loaded.slot_queries_SD, vlm.slot_queries_SD[:5])
    loaded.train()(inputs, status).sum().backward()
    assert loaded.action_rows_KD.grad is not None and loaded.slot_queries_SD.grad is not None
    torch.manual_seed(3)
    again = ActionVlm.build(config).eval()
    assert torch.equal(again.predict(*batch).logits_BSK, loaded.eval().predict(*batch).logits_BSK)


def test_new_tokens_use_spare_rows_and_start_near_the_mean_embedding():
    tokenizer = VlmProcessor.build(16).tokenizer
    model = built().model
    model.resize_token_embeddings(len(tokenizer) + 40)  # spare rows, as the published weights have
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_()
    processor = VlmProcessor.build(16)
    assert processor.new_actions
    action_vlm = ActionVlm(model, processor, 12, None, None)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 40
    mean = model.get_input_embeddings().weight[: processor.first_action].mean(dim=0)
    assert (action_vlm.action_rows_KD - mean).abs().max() < 0.2


def test_a_bfloat16_model_keeps_its_head_in_float32(tmp_path):
    vlm, rows = built(), rows_of(2)
    vlm.save(tmp_path)
    narrow = ActionVlm.from_pretrained(tmp_path, dtype="bfloat16").eval()
    assert narrow.model.dtype == torch.bfloat16
    assert torch.equal(narrow.action_rows_KD, vlm.action_rows_KD)
    assert torch.equal(narrow.status_queries[0].weight, vlm.status_queries[0].weight)
    one, two = (run_vlm(model, rows).code_logits for model in (vlm, narrow))
    assert np.allclose(one, two, atol=0.05) and not np.array_equal(one, two)


def test_logits_are_not_rounded_in_mixed_precision(batch, vlm):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        states_BSD = vlm._slot_states(*batch)[0]
        logits_BSK = vlm(*batch)
    assert logits_BSK.dtype == torch.float32
    assert torch.equal(logits_BSK, states_BSD.float() @ vlm.action_rows_KD.detach().T)


def test_an_image_that_cannot_be_cut_into_patches_is_refused(vlm):
    rows = replace(rows_of(1), images=np.zeros((1, 54, 112, 3), np.uint8))
    with pytest.raises(ConfigError, match="multiples of 28"):
        vlm_inputs(vlm, rows)
