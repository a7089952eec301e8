"""Tests of training the vision-language model: gradients, adapters, resumption and overfitting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.vlm import ADAPTERS_FOLDER, HEAD_FILE, ActionVlm
from models.vlm_config import VlmConfig
from ops.training.config import FitConfig
from ops.training.fit import fit
from ops.vla.code_accuracy import code_loss
from ops.vla.vlm import VlmRows, open_vlm, run_vlm, vlm_inputs
from tests.worlds.local_session import LocalSession
from tests.worlds.tiny_vla import SMALL_VLM, tiny_frames

HEAD = ("action_rows_KD", "slot_queries_SD", "status_tokens.", "status_queries.")
ROWS = VlmRows.of(tiny_frames(1, 8))
CODES_OF_ROWS = torch.from_numpy(np.random.default_rng(0).integers(0, 16, (8, 12)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a small VLM."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    ActionVlm.build(SMALL_VLM).save(folder)
    return folder


def adapted_vlm(base, rank: int = 2) -> ActionVlm:
    return ActionVlm.build(
        VlmConfig(pretrained=str(base), lora_rank=rank, gradient_checkpointing=True)
    )


def is_trained_beside_adapters(name: str) -> bool:
    return "lora_" in name or name.startswith(HEAD)


def loss_on(vlm: ActionVlm, seen: VlmRows = ROWS):
    """The loss of a batch, as ops.training.fit.fit calls it."""

    def loss_of(model, numbers):
        codes_BS = CODES_OF_ROWS[numbers]
        logits_BSK = model(*vlm_inputs(vlm, seen.take(numbers)))
        return code_loss(logits_BSK, codes_BS, torch.ones_like(codes_BS, dtype=torch.bool))

    return loss_of


@pytest.mark.parametrize("bev", [None, SMALL_VLM.bev])
def test_the_gradient_reaches_every_parameter(bev):
    torch.manual_seed(0)
    vlm = ActionVlm.build(replace(SMALL_VLM, bev=bev)).train()
    loss_on(vlm)(vlm, np.arange(8))[0].backward()
    gradients = {name: parameter.grad for name, parameter in vlm.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not grad.any()] == []
    assert {name.split(".")[0] for name in gradients} == {
        *(name.rstrip(".") for name in HEAD),
        "model",
    }
    assert gradients["slot_queries_SD"].any(dim=1).all()
    assert gradients["action_rows_KD"].any(dim=1).all()


def test_a_frozen_vision_tower_takes_no_part_in_the_backward_pass(base):
    adapted = adapted_vlm(base).train()
    inputs, _ = vlm_inputs(adapted, ROWS)
    assert not adapted._embed(inputs).requires_grad
    for _ in range(2):  # LoRA's down-projections have a gradient from the second step on
        loss_on(adapted)(adapted, np.arange(8))[0].backward()
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter -= 0.1 * parameter.grad
    trained = {name: item for name, item in adapted.named_parameters() if item.requires_grad}
    assert all(is_trained_beside_adapters(name) for name in trained)
    assert all(parameter.grad.any() for parameter in trained.values())
    assert not any("visual" in name for name in trained)


def test_adapters_train_alone_with_the_head_and_are_saved_beside_the_unchanged_weights(
    base, tmp_path
):
    adapted, original = adapted_vlm(base), ActionVlm.from_pretrained(base).eval()
    trained = {name for name, item in adapted.named_parameters() if item.requires_grad}
    assert all(is_trained_beside_adapters(name) for name in trained)
    assert {name for name, _ in adapted.named_parameters() if name.startswith(HEAD)} <= trained
    fit(
        LocalSession(), adapted, loss_on(adapted), 8, FitConfig(steps=4, learning_rate=0.05), seed=0
    )
    before = adapted.eval().predict(*vlm_inputs(adapted, ROWS))
    adapted.save(tmp_path)
    loaded = ActionVlm.from_pretrained(tmp_path).eval()
    after = loaded.predict(*vlm_inputs(loaded, ROWS))
    assert torch.allclose(before.logits_BSK, after.logits_BSK, atol=1e-5)
    unchanged = original.predict(*vlm_inputs(original, ROWS))
    assert not torch.allclose(after.logits_BSK, unchanged.logits_BSK, atol=1e-2)
    # the adapters changed the states, not the head alone
    assert not torch.allclose(after.visual_BVD, unchanged.visual_BVD, atol=1e-3)
    files = [load_file(folder / "model.safetensors") for folder in (base, tmp_path)]
    assert files[0].keys() == files[1].keys()
    changed = {name for name, value in files[0].items() if not torch.equal(value, files[1][name])}
    # tied to the LM head, so it is saved once
    assert changed == {"model.embed_tokens.weight"}
    assert all(name.startswith(HEAD) for name in load_file(tmp_path / HEAD_FILE))
    adapters = load_file(tmp_path / ADAPTERS_FOLDER / "adapter_model.safetensors")
    assert all("lora_" in name and value.any() for name, value in adapters.items())
    with pytest.raises(ValueError, match="trained with adapters"):
        ActionVlm.build(VlmConfig(pretrained=str(tmp_path)))


def with_random_adapters(base, dtype: str) -> ActionVlm:
    """A VLM with small random adapters, as after some training."""
    vlm = ActionVlm.build(VlmConfig(pretrained=str(base), dtype=dtype, lora_rank=4)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in vlm.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return vlm


def outputs_of(vlm: ActionVlm) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, S, K) and hidden states (B, S, D) of the slots, float32."""
    predicted = vlm.predict(*vlm_inputs(vlm, ROWS))
    return predicted.logits_BSK, predicted.action_BSD.float()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_vlm_that_is_read_computes_what_was_trained(base, tmp_path, dtype):
    trained = with_random_adapters(base, dtype)
    logits, states = outputs_of(trained)
    trained.save(tmp_path)
    assert torch.equal(outputs_of(trained)[1], states), "saving changes nothing"
    read = open_vlm(tmp_path, "cpu")
    adapters = [item for name, item in read.named_parameters() if "lora_" in name]
    assert read.model.dtype == getattr(torch, dtype)
    assert adapters and all(item.dtype == torch.float32 for item in adapters)
    assert not any(parameter.requires_grad for parameter in read.parameters())
    read_logits, read_states = outputs_of(read)
    assert torch.allclose(read_states, states, atol=1e-5)
    assert torch.allclose(read_logits, logits, atol=1e-5)
    # the adapters matter, and merged into bfloat16 weights they are others
    unadapted = ActionVlm.from_pretrained(base, dtype=dtype).eval()
    assert (outputs_of(unadapted)[1] - states).abs().max() > 1e-2
    trained.model = trained._adapters.merge_and_unload()
    error = (outputs_of(trained)[1] - states).abs().max()
    assert error < 1e-5 if dtype == "float32" else error > 1e-3


@pytest.mark.parametrize("rank", [0, 2])
def test_a_resumed_run_gives_the_same_bits_and_its_checkpoint_holds_trained_weights_only(
    base, rank
):
    """With adapters these are the adapters and the head; the other weights are loaded from the
    model's folder.
    """

    def trained(session: LocalSession) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = adapted_vlm(base, rank)
        config = FitConfig(steps=5, batch=4, learning_rate=1e-2, checkpoint_every=2)
        fit(session, model, loss_on(model), 8, config, seed=0)
        return model.state_dict()

    killed = LocalSession(killed_at=4)
    with pytest.raises(KeyboardInterrupt):
        trained(killed)
    saved = killed.state["model"]
    assert killed.state["step"] == 4
    assert all(any(name.startswith(part) for name in saved) for part in HEAD)
    assert rank == 0 or all(is_trained_beside_adapters(name) for name in saved)
    uninterrupted, resumed = trained(LocalSession()), trained(LocalSession(state=killed.state))
    assert uninterrupted.keys() == resumed.keys() and all(
        torch.equal(value, uninterrupted[name]) for name, value in resumed.items()
    )
    for part in HEAD:
        changed = [not torch.equal(saved[n], uninterrupted[n]) for n in saved if n.startswith(part)]
        assert any(changed), part
    killed.state["model"].pop("slot_queries_SD")
    with pytest.raises(RuntimeError, match="another training"):
        trained(LocalSession(state=killed.state))


@pytest.mark.parametrize("known_from", ["status and image", "image alone"])
def test_it_overfits_eight_rows(known_from):
    torch.manual_seed(0)
    seen, vlm = ROWS, ActionVlm.build(SMALL_VLM)
    if known_from == "image alone":
        images = np.zeros_like(ROWS.images)
        for row in range(8):  # a bright bar at another column of each image
            images[row, :, 14 * row : 14 * row + 14] = 255
        seen = replace(ROWS, images=images, status=np.repeat(ROWS.status[:1], 8, axis=0))
    steps = 220 if known_from == "image alone" else 120
    config = FitConfig(steps=steps, batch=8, learning_rate=1e-2, weight_decay=0.0)
    fit(LocalSession(), vlm, loss_on(vlm, seen), 8, config, seed=0)
    outputs = run_vlm(vlm, seen)
    assert np.array_equal(outputs.codes, CODES_OF_ROWS.numpy())
    assert np.array_equal(outputs.codes, outputs.code_logits.argmax(axis=-1))
    if known_from == "image alone":
        others = seen.with_images_of(np.roll(np.arange(8), 1))
        expected = np.roll(CODES_OF_ROWS.numpy(), 1, axis=0)
        assert (run_vlm(vlm, others).codes == expected).mean() > 0.95


def test_each_slot_learns_its_marginal_distribution_where_nothing_predicts_the_code():
    """Codes of a row depend on each other, so a model that reads the codes before a slot would
    give other distributions.
    """
    torch.manual_seed(0)
    vlm = ActionVlm.build(SMALL_VLM)
    seen = ROWS.take(np.zeros(8, int))  # eight times the same row
    codes = torch.tensor([0, 0, 0, 0, 0, 0, 3, 3])[:, None].expand(8, 12)  # equal in all slots

    def loss_of(model, numbers):
        logits_BSK = model(*vlm_inputs(vlm, seen.take(numbers)))
        return code_loss(logits_BSK, codes[numbers], torch.ones(8, 12, dtype=torch.bool))

    config = FitConfig(steps=80, batch=8, learning_rate=1e-2, weight_decay=0.0)
    fit(LocalSession(), vlm, loss_of, 8, config, seed=0)
    logits = torch.from_numpy(
        run_vlm(vlm, seen.take(slice(0, 1))).code_logits[0].astype(np.float32)
    )
    probability_SK = logits.softmax(dim=-1)
    assert torch.allclose(probability_SK[:, 0], torch.tensor(0.75), atol=0.03)
    assert torch.allclose(probability_SK[:, 3], torch.tensor(0.25), atol=0.03)


def test_invalid_codes_do_not_change_the_loss():
    logits = torch.randn(2, 12, 16)
    codes, valid = torch.randint(16, (2, 12)), torch.ones(2, 12, dtype=torch.bool)
    valid[1, 4:] = False
    other = codes.clone()
    other[1, 4:] = (other[1, 4:] + 1) % 16
    assert torch.equal(code_loss(logits, codes, valid)[0], code_loss(logits, other, valid)[0])
