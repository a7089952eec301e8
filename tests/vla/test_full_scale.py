"""The estimate for Qwen2.5-VL-3B on 8 GPUs: counts at the published shapes; the preset fits."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from benchmarks.full_scale import (
    LIMIT_GB,
    StepEstimate,
    estimate_step,
    main,
    measure_plan,
    measure_step,
    preset_config,
    published_3b,
)
from models.vlm import ActionVlm
from models.vlm_config import VlmConfig
from pipelines.presets import preset
from tests.worlds.tiny_vla import HEIGHT, RECIPE, SMALL_VLM, WIDTH


@lru_cache
def preset_estimate() -> StepEstimate:
    return estimate_step(preset_config(), gpus=8)


def test_the_3b_shapes_have_the_published_number_of_parameters():
    assert round(preset_estimate().parameters / 1e9, 3) == 3.755
    assert round(preset_estimate().vision_parameters / 1e9, 3) == 0.669


def test_the_slots_are_those_of_the_presets_codebook():
    vlm = preset_config().vlm
    assert (vlm.slots, vlm.codes) == (16, 16) and vlm.lora_rank == preset(
        "navsim"
    ).vla.vlm.lora_rank


def test_trained_are_the_head_and_the_adapters_of_every_projection_of_the_language_model():
    text, vlm = published_3b().text_config, preset_config().vlm
    hidden, inner = text.hidden_size, text.intermediate_size
    key = text.num_key_value_heads * hidden // text.num_attention_heads
    # q, o; k, v; gate, up, down
    layer = 2 * (hidden + hidden) + 2 * (hidden + key) + 3 * (hidden + inner)
    adapters = vlm.lora_rank * layer * text.num_hidden_layers
    status_tokens = (9 + 1) * hidden + (hidden + 1) * 2 * hidden
    status_queries = (9 + 1) * 256 + (256 + 1) * 256 + (256 + 1) * vlm.slots * hidden
    head = (vlm.codes + vlm.slots) * hidden + status_tokens + status_queries
    assert preset_estimate().trained == adapters + head
    assert adapters == 119_734_272 and head < 0.15 * adapters


def test_the_preset_fits_into_80_gb_with_and_without_checkpointing():
    estimate = preset_estimate()
    assert estimate.rows == 16 and estimate.visual_tokens == 144 + 16  # camera and ground
    assert estimate.tokens == 160 + 16 + 2 + 21  # and slots, status, words of the prompt
    assert estimate.weights_bytes < estimate.peak_gb * 1e9 < LIMIT_GB * 1e9
    assert estimate.peak_gb + (estimate.kept_all_bytes - estimate.kept_bytes) / 1e9 < LIMIT_GB


def test_the_counted_operations_are_those_of_the_formula():
    """Two operations per weight and token forward; as many backward, where only the adapters have
    gradients of weights.
    """
    estimate, text = preset_estimate(), published_3b().text_config
    weights = estimate.parameters - estimate.vision_parameters - text.vocab_size * text.hidden_size
    forward = estimate.done_flops - estimate.model_flops
    assert forward == pytest.approx(2 * weights * estimate.rows * estimate.tokens, rel=0.1)
    vision = 2 * estimate.rows * 4 * estimate.visual_tokens * estimate.vision_parameters
    assert estimate.model_flops == pytest.approx(2 * forward + vision, rel=0.1)


def test_the_measured_step_is_a_whole_training_step(tmp_path):
    torch.manual_seed(0)
    ActionVlm.build(SMALL_VLM).save(tmp_path)
    vlm = ActionVlm.build(
        VlmConfig(pretrained=str(tmp_path), lora_rank=2, gradient_checkpointing=True)
    )
    before = {name: value.clone() for name, value in vlm.state_dict().items()}
    step = measure_step(vlm, 2, (HEIGHT, WIDTH), steps=2)
    assert (
        step.seconds > 0
        and step.tokens_per_s > 0
        and np.isfinite(step.loss)
        and step.peak_gb is None
    )
    changed = {name for name, value in vlm.state_dict().items() if (value != before[name]).any()}
    assert {"action_rows_KD", "slot_queries_SD"} <= changed and any("lora" in n for n in changed)


def test_without_a_gpu_the_step_is_skipped(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main(["--step"])
    out = capsys.readouterr().out
    assert "3.755 B" in out and "skipped, there is no GPU" in out


def test_planning_is_timed_for_the_vlm_and_for_the_exported_student():
    torch.manual_seed(0)
    times = measure_plan(ActionVlm.build(SMALL_VLM), RECIPE, (HEIGHT, WIDTH), calls=2)
    assert times.vlm_s > 0 and times.student_s > 0 and times.student_parameters > 1000
