"""Tests of the vision-language model with action tokens: equal to Hugging Face's class in its
logits, decoding and files.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
)

from models.vlm import ActionVlm
from models.vlm_config import VlmConfig
from models.vlm_inputs import VlmInputs, VlmProcessor, prompts, rope_positions
from ops.training.config import FitConfig
from ops.training.fit import fit
from ops.vla.vlm import code_loss, run_vlm, vlm_inputs
from storage.errors import ConfigError
from tests.worlds.tiny_vla import SMALL_VLM, tiny_frames


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> ActionVlm:
    torch.manual_seed(0)
    vlm = ActionVlm.build(SMALL_VLM).eval()
    # writes the action rows into the vocabulary of the Hugging Face model
    vlm.save(tmp_path_factory.mktemp("vlm"))
    return vlm


def inputs_of(vlm: ActionVlm, texts: list[str]) -> VlmInputs:
    images = torch.from_numpy(tiny_frames(1, len(texts)).images)
    return vlm.processor(images, texts, room=12)


@pytest.fixture(params=["equal prompts", "one short prompt"])
def inputs(request, vlm: ActionVlm) -> VlmInputs:
    """A batch without and one with padding."""
    texts = ["left v=08.1 a=-0.3", "straight v=03.0 a=+1.0", "right v=11.9 a=+0.0"]
    return inputs_of(vlm, texts if request.param == "equal prompts" else ["left", *texts[1:]])


def class_arguments(vlm: ActionVlm, inputs: VlmInputs) -> dict[str, torch.Tensor]:
    """The batch as arguments of the Hugging Face class's forward."""
    index = torch.arange(inputs.input_ids_BL.shape[1])[None]
    return {
        "input_ids": inputs.input_ids_BL,
        "attention_mask": (index >= inputs.pad_B[:, None]).long(),
        "pixel_values": inputs.pixels,
        "image_grid_thw": inputs.grid_thw_B3,
        "mm_token_type_ids": (inputs.input_ids_BL == vlm.processor.image_pad).long(),
    }


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
    texts = prompts(frames.status)
    assert len({len(text) for text in texts}) == 1
    assert texts[0] == f"straight v={frames.velocity[0, 0]:04.1f} a=+0.0"


def test_patches_are_bit_equal_to_those_of_the_image_processor(vlm):
    images = tiny_frames(1, 3).images
    patches = vlm.processor.patchify(torch.from_numpy(images))
    expected = vlm.processor.image_processor(
        images=list(images), do_resize=False, return_tensors="pt"
    )
    assert torch.equal(patches, expected["pixel_values"])


def test_rotary_positions_equal_those_of_the_hugging_face_class(vlm, inputs):
    arguments = class_arguments(vlm, inputs)
    expected, _ = vlm.model.model.get_rope_index(
        arguments["input_ids"],
        arguments["mm_token_type_ids"],
        inputs.grid_thw_B3,
        attention_mask=arguments["attention_mask"],
    )
    for row, pad in enumerate(inputs.pad_B.tolist()):
        length = inputs.input_ids_BL.shape[1] - pad
        assert torch.equal(expected[:, row, pad:], inputs.positions_3T[:, :length])


def test_positions_of_the_text_after_the_image_continue_from_its_larger_side():
    assert rope_positions(2, (1, 3), 7).tolist() == [
        [0, 1, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 5, 6],
        [0, 1, 2, 3, 4, 5, 6],
    ]


def test_logits_equal_those_of_the_hugging_face_class_at_the_action_tokens(vlm, inputs):
    first = vlm.processor.first_action
    with torch.no_grad():
        expected = vlm.model(**class_arguments(vlm, inputs)).logits[:, -1, first : first + 16]
    assert torch.allclose(vlm.decode(inputs, slots=1).logits_BSK[:, 0], expected, atol=1e-6)


def test_decoding_equals_generate_constrained_to_the_action_tokens(vlm, inputs):
    first = vlm.processor.first_action

    class OnlyCodes(LogitsProcessor):
        def __call__(self, input_ids, scores):
            allowed = torch.full_like(scores, -torch.inf)
            allowed[:, first : first + 16] = scores[:, first : first + 16]
            return allowed

    expected = vlm.model.generate(
        **class_arguments(vlm, inputs),
        max_new_tokens=12,
        min_new_tokens=12,
        do_sample=False,
        logits_processor=LogitsProcessorList([OnlyCodes()]),
    )
    assert torch.equal(vlm.decode(inputs).codes_BS, expected[:, -12:] - first)


def test_step_by_step_decoding_gives_the_logits_of_one_pass_over_its_codes(vlm, inputs):
    decoded = vlm.decode(inputs)
    with torch.no_grad():
        assert torch.allclose(vlm(inputs, decoded.codes_BS), decoded.logits_BSK, atol=1e-5)
    assert decoded.action_BSD.shape == (3, 12, 32) and decoded.visual_BVD.shape == (3, 8, 32)


def test_decoding_encodes_image_and_prompt_once_and_then_one_token_a_step(vlm, inputs):
    lengths, image_calls = [], []
    layer, vision = vlm.model.model.language_model.layers[0], vlm.model.model.visual
    hooks = [
        layer.register_forward_pre_hook(lambda _, arguments: lengths.append(arguments[0].shape[1])),
        vision.register_forward_pre_hook(lambda *_: image_calls.append(1)),
    ]
    vlm.decode(inputs)
    for hook in hooks:
        hook.remove()
    assert lengths == [inputs.input_ids_BL.shape[1], *[1] * 11] and image_calls == [1]


def test_the_replaced_layers_give_the_hidden_states_of_the_hugging_face_class(
    vlm, inputs, tmp_path
):
    vlm.save(tmp_path)
    reference = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    decoded, arguments = vlm.decode(inputs), class_arguments(vlm, inputs)
    codes_BT = vlm.processor.first_action + decoded.codes_BS[:, :-1]
    ids_BT, ones_BT = torch.cat([inputs.input_ids_BL, codes_BT], dim=1), torch.ones_like(codes_BT)
    arguments |= {
        "input_ids": ids_BT,
        "attention_mask": torch.cat([arguments["attention_mask"], ones_BT], dim=1),
        "mm_token_type_ids": torch.cat([arguments["mm_token_type_ids"], 0 * ones_BT], dim=1),
    }
    with torch.no_grad():
        hidden_BTD = reference.model(**arguments).last_hidden_state
    assert torch.allclose(hidden_BTD[:, -12:], decoded.action_BSD, atol=1e-5)
    is_visual_BT = ids_BT == vlm.processor.image_pad
    assert torch.allclose(hidden_BTD[is_visual_BT], decoded.visual_BVD.flatten(0, 1), atol=1e-5)


def test_a_frozen_vision_tower_takes_no_part_in_the_backward_pass(inputs, tmp_path):
    ActionVlm.build(SMALL_VLM).save(tmp_path)
    adapted = ActionVlm.build(
        VlmConfig(pretrained=str(tmp_path), lora_rank=2, gradient_checkpointing=True)
    ).train()
    assert not adapted._embed(inputs).requires_grad
    adapted(inputs, torch.zeros(3, 12, dtype=torch.long)).sum().backward()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert len(trained) > 1 and all(parameter.grad is not None for parameter in trained)


def test_rows_of_a_batch_do_not_influence_each_other(vlm):
    frames = tiny_frames(1, 5)
    together = run_vlm(vlm, frames.images, frames.status, batch=5)
    alone = run_vlm(vlm, frames.images[2:3], frames.status[2:3])
    assert np.allclose(together.visual[2], alone.visual[0], atol=1e-2)
    assert np.array_equal(together.codes[2], alone.codes[0])


def test_the_command_changes_the_codes_but_not_the_visual_states(vlm):
    left, right = (
        vlm.decode(inputs_of(vlm, [f"{word} v=08.1 a=-0.3"])) for word in ("left", "right")
    )
    assert torch.equal(left.visual_BVD, right.visual_BVD)
    assert not torch.allclose(left.logits_BSK, right.logits_BSK)


def test_it_saves_a_plain_qwen_checkpoint_and_loads_the_same_bits(vlm, inputs, tmp_path):
    vlm.save(tmp_path)
    loaded = ActionVlm.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded.decode(inputs).logits_BSK, vlm.decode(inputs).logits_BSK)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(plain).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert (
        AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("<ACT_15>")
        == vlm.processor.first_action + 15
    )


def test_weights_from_a_folder_are_trained_by_the_same_code(vlm, inputs, tmp_path):
    vlm.save(tmp_path)
    # the folder's sizes apply, not the configuration's
    loaded = ActionVlm.build(replace(SMALL_VLM, pretrained=str(tmp_path), hidden=999))
    assert torch.equal(loaded.eval().decode(inputs).logits_BSK, vlm.decode(inputs).logits_BSK)
    loaded.train()(inputs, torch.zeros(3, 12, dtype=torch.long)).sum().backward()
    assert loaded.action_rows_KD.grad is not None


def test_new_tokens_use_spare_rows_and_start_near_the_mean_embedding(vlm, tmp_path):
    tokenizer = VlmProcessor.build(16).tokenizer
    model = ActionVlm.build(SMALL_VLM).model
    model.resize_token_embeddings(len(tokenizer) + 40)  # spare rows, as the published weights have
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_()
    processor = VlmProcessor.build(16)
    assert processor.new_actions
    action_vlm = ActionVlm(model, processor, 12)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 40
    mean = model.get_input_embeddings().weight[: processor.first_action].mean(dim=0)
    assert (action_vlm.action_rows_KD - mean).abs().max() < 0.2


def test_the_gradient_reaches_every_parameter(inputs):
    vlm = ActionVlm.build(SMALL_VLM).train()
    code_loss(
        vlm(inputs, torch.arange(36).view(3, 12) % 16),
        torch.arange(36).view(3, 12) % 16,
        torch.ones(3, 12, dtype=torch.bool),
    )[0].backward()
    without_gradient = [
        name
        for name, parameter in vlm.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without_gradient == []


def test_adapters_train_alone_and_merge_into_the_saved_weights(vlm, inputs, tmp_path):
    vlm.save(tmp_path / "base")
    adapted = ActionVlm.build(
        VlmConfig(pretrained=str(tmp_path / "base"), lora_rank=2, gradient_checkpointing=True)
    )
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name or name == "action_rows_KD" for name in trained)
    optimizer = torch.optim.SGD(
        [parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=0.5
    )
    for _ in range(2):
        adapted.train().zero_grad()
        F.cross_entropy(
            adapted(inputs, torch.zeros(3, 12, dtype=torch.long)).flatten(0, 1),
            torch.zeros(36, dtype=torch.long),
        ).backward()
        optimizer.step()
    before = adapted.eval().decode(inputs).logits_BSK
    adapted.save(tmp_path / "merged")
    after = ActionVlm.from_pretrained(tmp_path / "merged").eval().decode(inputs).logits_BSK
    assert torch.allclose(before, after, atol=1e-4)
    assert not torch.allclose(after, vlm.decode(inputs).logits_BSK, atol=1e-3)


class LocalSession:
    """Session in this process that keeps the last checkpoint and can be killed at a step."""

    rank, world_size, device = 0, 1, torch.device("cpu")

    def __init__(self, state=None, killed_at=None):
        self.state, self.killed_at = state, killed_at

    def resume(self):
        return self.state

    def prepare(self, model):
        return model

    def report(self, step, metrics, state=None):
        if state is not None:
            self.state = {"step": step, **deepcopy(state)}
        if step == self.killed_at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("rank", [0, 2])
def test_a_resumed_run_gives_the_same_bits_and_its_checkpoint_holds_trained_weights_only(
    vlm, rank, tmp_path
):
    """With adapters these are the adapters and the action rows; the other weights are loaded from
    the model's folder.
    """
    vlm.save(tmp_path)
    frames, codes = tiny_frames(1, 8), torch.arange(96).view(8, 12) % 16

    def trained(session: LocalSession) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = ActionVlm.build(
            VlmConfig(pretrained=str(tmp_path), lora_rank=rank, gradient_checkpointing=True)
        )

        def loss_of(wrapped, rows):
            return code_loss(
                wrapped(vlm_inputs(model, frames.images[rows], frames.status[rows]), codes[rows]),
                codes[rows],
                torch.ones(len(rows), 12, dtype=torch.bool),
            )

        fit(
            session,
            model,
            loss_of,
            8,
            FitConfig(steps=5, batch=4, learning_rate=1e-2, checkpoint_every=2),
            seed=0,
        )
        return model.state_dict()

    killed = LocalSession(killed_at=4)
    with pytest.raises(KeyboardInterrupt):
        trained(killed)
    saved = killed.state["model"]
    assert killed.state["step"] == 4 and "action_rows_KD" in saved
    assert rank == 0 or all("lora_" in name or name == "action_rows_KD" for name in saved)
    uninterrupted, resumed = trained(LocalSession()), trained(LocalSession(state=killed.state))
    assert uninterrupted.keys() == resumed.keys() and all(
        torch.equal(value, uninterrupted[name]) for name, value in resumed.items()
    )
    assert any(not torch.equal(value, uninterrupted[name]) for name, value in saved.items())
    killed.state["model"].pop("action_rows_KD")
    with pytest.raises(RuntimeError, match="another training"):
        trained(LocalSession(state=killed.state))


def test_it_overfits_eight_rows():
    torch.manual_seed(0)
    frames, vlm, session = tiny_frames(1, 8), ActionVlm.build(SMALL_VLM), LocalSession()
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 16, (8, 12)))

    def loss_of(model, rows):
        return code_loss(
            model(vlm_inputs(vlm, frames.images[rows], frames.status[rows]), codes[rows]),
            codes[rows],
            torch.ones(8, 12, dtype=torch.bool),
        )

    fit(
        session,
        vlm,
        loss_of,
        8,
        FitConfig(steps=100, batch=8, learning_rate=1e-2, weight_decay=0.0),
        seed=0,
    )
    assert np.array_equal(run_vlm(vlm, frames.images, frames.status).codes, codes.numpy())


def test_invalid_codes_do_not_change_the_loss():
    logits = torch.randn(2, 12, 16)
    codes, valid = torch.randint(16, (2, 12)), torch.ones(2, 12, dtype=torch.bool)
    valid[1, 4:] = False
    other = codes.clone()
    other[1, 4:] = (other[1, 4:] + 1) % 16
    assert torch.equal(code_loss(logits, codes, valid)[0], code_loss(logits, other, valid)[0])


def test_an_image_that_cannot_be_cut_into_patches_is_refused(vlm):
    with pytest.raises(ConfigError, match="multiples of 28"):
        vlm_inputs(vlm, np.zeros((1, 54, 112, 3), np.uint8), np.zeros((1, 8), np.float32))
