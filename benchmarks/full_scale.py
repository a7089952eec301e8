"""Memory and compute of Qwen2.5-VL-3B on 8 GPUs: `python -m benchmarks.full_scale`.

The estimate comes from this project's code at the published shapes, built without memory (torch's
meta device) as the preset `navsim` configures it: parameters and adapters are counted, activations
kept by autograd are summed tensor by tensor, and operations are counted during a step on the meta
device. `--step` runs real steps with random weights on one GPU for comparison. `--plan` times one
planned trajectory on the CPU: the VLM, which reads two images and predicts its codes in one pass,
against the student of the same preset as it is deployed, both with random weights. Legend: B rows,
L tokens a row, D hidden width.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from models.ground_config import CAMERA_NUMBERS
from models.planners.config import ImitatorConfig
from models.planners.student import StudentNet
from models.vlm import ActionVlm
from models.vlm_config import STATUS_WIDTH, VlmConfig
from models.vlm_inputs import VlmProcessor, prompts
from ops.planners.checkpoint import count_parameters
from ops.planners.config import PlannerRecipe
from ops.planners.training_arrays import TrainingArrays
from ops.student.export import ONNX_FILE, export
from ops.student.predict import OnnxRuntime
from ops.vla.code_accuracy import code_loss
from ops.vla.config import VlaConfig
from ops.vla.vlm import VlmRows, run_vlm, vlm_inputs
from pipelines.presets import preset
from storage.camera import Camera, camera_numbers

GB = 1e9
NAVTRAIN_ROWS = 103_288  # scenes of NAVSIM's training split
PEAK_FLOPS = {"H100": 989e12, "A100": 312e12}  # dense bfloat16, from the data sheets
UTILISATION = 0.35  # assumed until measured: share of the peak that the model's own products reach
OUTSIDE_GB = 2.5  # assumed: CUDA context, NCCL, and the allocator's fragments
LIMIT_GB = 80.0
_AHEAD = Camera(  # 1.5 m before the rear axle and 1.6 m above the ground, 60 degrees wide
    "CAM_F0",
    448,
    252,
    np.array([[388.0, 0.0, 223.5], [0.0, 388.0, 125.5], [0.0, 0.0, 1.0]]),
    np.array(
        [[0.0, 0.0, 1.0, 1.5], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.6], [0.0, 0.0, 0.0, 1.0]]
    ),
)


def published_3b() -> Qwen2_5_VLConfig:
    """The shapes of Qwen/Qwen2.5-VL-3B-Instruct, from its config.json."""
    return Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=151_936,
            hidden_size=2048,
            intermediate_size=11_008,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=2,
            max_position_embeddings=128_000,
            rms_norm_eps=1e-6,
            bos_token_id=151_643,
            eos_token_id=151_645,
            rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[16, 24, 24]),
        ),
        vision_config=dict(
            depth=32,
            hidden_size=1280,
            intermediate_size=3420,
            num_heads=16,
            patch_size=14,
            spatial_merge_size=2,
            temporal_patch_size=2,
            window_size=112,
            fullatt_block_indexes=[7, 15, 23, 31],
            out_hidden_size=2048,
        ),
        tie_word_embeddings=True,
    )


def preset_config() -> VlaConfig:
    """The recipe of the preset `navsim`, with the codes and slots that its codebook gives."""
    scale = preset("navsim")
    slots = scale.relabeled.transitions * scale.codebook.model.ego_quantizer.tokens
    return replace(
        scale.vla, vlm=replace(scale.vla.vlm, codes=scale.codebook.num_codes, slots=slots)
    )


def build(config: VlmConfig, device: str, shapes: Qwen2_5_VLConfig | None = None) -> ActionVlm:
    """The VLM at the published shapes, ready for training.

    It has random weights, or none on the device `meta`.
    """
    processor = VlmProcessor.build(config.codes)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            shapes or published_3b(),
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
        )
        return ActionVlm(model, processor, config.slots, config.bev, config.front_hw).prepare(
            config
        )


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """Estimated memory and compute of one training step of one GPU."""

    parameters: int
    vision_parameters: int
    trained: int
    rows: int  # of one GPU in a step
    visual_tokens: int  # of one row
    tokens: int  # of one row, including ego status and code slots
    weights_bytes: int
    gradient_bytes: int  # with DDP's buckets
    optimizer_bytes: int
    kept_bytes: int  # activations kept for the backward pass, as configured
    kept_all_bytes: int  # the same without gradient checkpointing
    vision_bytes: int  # largest working set of the frozen vision tower, which keeps nothing
    model_flops: float  # of a step without recomputation: forward and backward, vision forward only
    done_flops: float  # including the recomputation of checkpointing
    checkpoint_bytes: int

    @property
    def peak_gb(self) -> float:
        """Expected peak of one GPU's memory."""
        fixed = self.weights_bytes + self.gradient_bytes + self.optimizer_bytes
        return (fixed + max(self.kept_bytes, self.vision_bytes)) / GB + OUTSIDE_GB


def estimate_step(config: VlaConfig, gpus: int) -> StepEstimate:
    """Estimate a step of `config.vlm_fit` on each of `gpus` GPUs."""
    vlm = build(config.vlm, "meta")
    rows, sizes = config.vlm_fit.batch // gpus, [config.image_hw]
    if vlm.bev is not None:
        sizes.append((vlm.bev.pixels, vlm.bev.pixels))
    row = vlm.processor(
        [torch.zeros(1, *size, 3, dtype=torch.uint8) for size in sizes],
        prompts(np.zeros((1, STATUS_WIDTH))),
        room=vlm.tokens_after_prompt,
    )
    tokens = row.input_ids_BL.shape[1] + vlm.tokens_after_prompt
    patches = [int(grid.prod()) for grid in row.grid_thw_I3]
    trained = [parameter for parameter in vlm.parameters() if parameter.requires_grad]
    trained_bytes = sum(parameter.nbytes for parameter in trained)
    hidden = vlm.model.config.text_config.hidden_size
    layers = vlm.model.config.text_config.num_hidden_layers
    stream_bytes = rows * tokens * hidden * 2
    kept_all = kept_by_autograd(vlm, rows, tokens)
    # the residual stream, and one layer with its gradients
    checkpointed = layers * stream_bytes + 2 * kept_all // layers
    forward, whole = counted_flops(vlm, rows, tokens)
    vision = rows * sum(vision_flops(vlm, count) for count in patches)
    tower = vlm.model.config.vision_config
    return StepEstimate(
        parameters=sum(parameter.numel() for parameter in vlm.model.parameters())
        - count_adapter_parameters(vlm),
        vision_parameters=sum(
            parameter.numel() for parameter in vlm.model.model.visual.parameters()
        ),
        trained=sum(parameter.numel() for parameter in trained),
        rows=rows,
        tokens=tokens,
        visual_tokens=sum(patches) // 4,
        weights_bytes=sum(parameter.nbytes for parameter in vlm.parameters()),
        gradient_bytes=2 * trained_bytes,
        optimizer_bytes=2 * trained_bytes,
        kept_bytes=checkpointed if config.vlm.gradient_checkpointing else kept_all,
        kept_all_bytes=kept_all,
        vision_bytes=rows
        * sum(patches)
        * 2
        * (3 * tower.intermediate_size + 8 * tower.hidden_size),
        model_flops=whole + vision,
        done_flops=whole + vision + (forward if config.vlm.gradient_checkpointing else 0.0),
        checkpoint_bytes=3 * trained_bytes,
    )


def count_adapter_parameters(vlm: ActionVlm) -> int:
    """Number of parameters in low-rank adapters."""
    return sum(parameter.numel() for name, parameter in vlm.named_parameters() if "lora_" in name)


def kept_by_autograd(vlm: ActionVlm, rows: int, tokens: int) -> int:
    """Bytes of activations that autograd keeps of the language model's forward pass.

    Without checkpointing and without weights. Outside of autocast the adapters work in float32, so
    this is an overestimate.
    """
    weights = {parameter.untyped_storage()._cdata for parameter in vlm.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = _language(vlm, rows, tokens)
        size = sum(storage.nbytes() for storage in kept.values())
    del out
    return size


def counted_flops(vlm: ActionVlm, rows: int, tokens: int) -> tuple[float, float]:
    """Floating-point operations of the language model: forward, and forward plus backward.

    Without recomputation.
    """
    with FlopCounterMode(display=False) as forward:
        out = _language(vlm, rows, tokens)
    with FlopCounterMode(display=False) as backward:
        out.float().mean().backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


def vision_flops(vlm: ActionVlm, patches: int) -> float:
    """Floating-point operations of the vision tower's forward pass on one image."""
    tower, config = vlm.model.model.visual, vlm.model.config.vision_config
    merger = sum(parameter.numel() for parameter in tower.merger.parameters())
    weight_flops = (
        2 * patches * (sum(parameter.numel() for parameter in tower.parameters()) - merger)
        + 2 * patches / 4 * merger
    )
    full_blocks = len(config.fullatt_block_indexes)
    window = (config.window_size // config.patch_size) ** 2
    return weight_flops + 4 * patches * config.hidden_size * (
        full_blocks * patches + (config.depth - full_blocks) * window
    )


def _language(vlm: ActionVlm, rows: int, tokens: int) -> torch.Tensor:
    """Last hidden states (B, L, D) of the language model on the meta device, checkpointing off."""
    language, dtype = vlm.model.model.language_model, vlm.model.dtype
    # checkpointing is active in training mode only; without dropout nothing else differs
    language.eval()
    embeds = torch.empty(
        rows, tokens, vlm.model.config.text_config.hidden_size, device="meta", dtype=dtype
    )
    positions = torch.empty(3, rows, tokens, device="meta", dtype=torch.long)
    return language(
        inputs_embeds=embeds.requires_grad_(), position_ids=positions, use_cache=False
    ).last_hidden_state


@dataclass(frozen=True, slots=True)
class Step:
    """Measured training steps on one device."""

    seconds: float  # median of a step
    tokens_per_s: float
    peak_gb: float | None  # None: not measured on a CPU
    loss: float


def measure_step(vlm: ActionVlm, rows: int, image_hw: tuple[int, int], steps: int = 6) -> Step:
    """Time whole training steps, from images to updated weights, on random inputs."""
    device = vlm.action_rows_KD.device
    trained = [parameter for parameter in vlm.train().parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    generator = np.random.default_rng(0)
    seen = _random_rows(generator, rows, image_hw)
    codes = torch.from_numpy(generator.integers(0, vlm.processor.codes, (rows, vlm.slots))).to(
        device
    )
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    durations, tokens, loss = [], 0, torch.zeros(())
    for _ in range(steps):
        wait()
        start = time.perf_counter()
        inputs, status_BN = vlm_inputs(vlm, seen)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits_BSK = vlm(inputs, status_BN).float()
            loss, _ = code_loss(logits_BSK, codes, torch.ones_like(codes, dtype=torch.bool))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        wait()
        durations.append(time.perf_counter() - start)
        tokens = rows * (inputs.input_ids_BL.shape[1] + vlm.tokens_after_prompt)
    seconds = float(np.median(durations[steps // 2 :]))
    peak = torch.cuda.max_memory_allocated() / GB if device.type == "cuda" else None
    return Step(seconds, tokens / seconds, peak, float(loss.detach()))


@dataclass(frozen=True, slots=True)
class PlanTime:
    """Times of one planned trajectory on the CPU."""

    vlm_s: float  # Qwen2.5-VL: predicts all code slots in one pass
    student_s: float  # the whole exported student
    student_parameters: int


def measure_plan(
    vlm: ActionVlm, recipe: PlannerRecipe, image_hw: tuple[int, int], calls: int = 3
) -> PlanTime:
    """Median times of one planned trajectory: the VLM, without the VLA's planner, and a student of
    `recipe`.
    """
    generator = np.random.default_rng(0)
    seen = _random_rows(generator, 1, image_hw)
    status = seen.status[:, :-1]
    student = StudentNet(
        replace(recipe.planner, score_weight=recipe.proposal_scoring.weight), ImitatorConfig()
    ).eval()
    camera = np.zeros((2, CAMERA_NUMBERS), np.float32)
    small = generator.integers(0, 255, (2, *recipe.planner.image_hw, 3), dtype=np.uint8)
    rows = TrainingArrays(np.repeat(status, 2, 0), np.zeros((2, 8, 3), np.float32), small, camera)
    with tempfile.TemporaryDirectory() as folder:
        export(student, rows, Path(folder), int8=False)
        runtime = OnnxRuntime(Path(folder) / ONNX_FILE, torch.get_num_threads())
        student_s = _seconds(lambda: runtime(small[:1], camera[:1], status), 10 * calls)
    return PlanTime(
        _seconds(lambda: run_vlm(vlm, seen), calls), student_s, count_parameters(student)
    )


def _random_rows(generator: np.random.Generator, rows: int, image_hw: tuple[int, int]) -> VlmRows:
    """Rows with noise for images and the calibration of a camera that looks ahead."""
    status = np.tile(np.array([8, 0, 0, 0, 0, 1, 0, 0, 0], np.float32), (rows, 1))
    images = generator.integers(0, 255, (rows, *image_hw, 3), dtype=np.uint8)
    return VlmRows(images, status, np.tile(camera_numbers(_AHEAD), (rows, 1)))


def _seconds(call: Callable[[], object], calls: int) -> float:
    """Median of the calls, after one warm-up call."""
    durations = []
    for _ in range(1 + calls):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations[1:]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the estimate; with --step also measured steps; with --plan only the planning times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--rows", type=int, default=NAVTRAIN_ROWS, help="training rows per epoch")
    parser.add_argument(
        "--step", action="store_true", help="run real steps with random weights, if there is a GPU"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="time one planned trajectory on the CPU: 8 GB of memory, some minutes",
    )
    parser.add_argument("--threads", type=int, default=1, help="of --plan (default: %(default)s)")
    options = parser.parse_args(arguments)
    config = preset_config()
    if options.plan:
        torch.set_num_threads(options.threads)
        times = measure_plan(
            build(replace(config.vlm, lora_rank=0, gradient_checkpointing=False), "cpu"),
            config.recipe,
            config.image_hw,
        )
        print(
            f"one plan on this CPU, {options.threads} thread(s), images of {config.image_hw}: "
            f"the VLM {times.vlm_s:.2f} s, the student "
            f"({times.student_parameters / 1e6:.1f} M parameters, ONNX) "
            f"{1e3 * times.student_s:.0f} ms, {times.vlm_s / times.student_s:.0f} times faster"
        )
        return
    estimate = estimate_step(config, options.gpus)
    print(
        "\n".join(
            f"{name:52} {value}"
            for name, value in table(estimate, config, options.gpus, options.rows)
        )
    )
    if not options.step:
        return
    if not torch.cuda.is_available():
        print(
            "\nno real step: skipped, there is no GPU here. "
            "Everything above is calculated, nothing is measured."
        )
        return
    step = measure_step(build(config.vlm, "cuda"), estimate.rows, config.image_hw)
    name = torch.cuda.get_device_name()
    peak = next(
        (flops for key, flops in PEAK_FLOPS.items() if key in name.replace("H200", "H100")), None
    )
    use = (
        f"{estimate.model_flops / step.seconds / peak:.1%} of the peak"
        if peak
        else "peak of this GPU unknown"
    )
    print(
        f"\nmeasured on one {name}: {step.seconds:.3f} s a step, "
        f"{step.tokens_per_s:,.0f} tokens/s, peak memory {step.peak_gb:.1f} GB, "
        f"model-flops use {use}"
    )


def table(estimate: StepEstimate, config: VlaConfig, gpus: int, rows: int) -> list[tuple[str, str]]:
    """Rows (name, value) of the printed estimate."""
    fit, (height, width) = config.vlm_fit, config.image_hw
    share = config.recipe.rows.vlm_share
    vlm_rows, planner_rows = share * rows, rows if share == 1 else (1 - share) * rows
    hidden_gb = planner_rows * (estimate.visual_tokens + config.vlm.slots) * 2048 * 2 / GB
    lines = [
        (
            "parameters (of them vision tower)",
            f"{estimate.parameters / 1e9:.3f} B ({estimate.vision_parameters / 1e9:.3f} B)",
        ),
        (
            f"trained: adapters of rank {config.vlm.lora_rank}, action rows, slots, ego status",
            f"{estimate.trained / 1e6:.1f} M",
        ),
        ("rows a step, all GPUs / one GPU", f"{fit.batch} / {estimate.rows}"),
        (
            f"tokens a row at {height} x {width} (of them visual)",
            f"{estimate.tokens} ({estimate.visual_tokens})",
        ),
        ("one GPU: weights", f"{estimate.weights_bytes / GB:.2f} GB"),
        ("one GPU: gradients and DDP's buckets", f"{estimate.gradient_bytes / GB:.2f} GB"),
        ("one GPU: optimiser", f"{estimate.optimizer_bytes / GB:.2f} GB"),
        ("one GPU: activations kept, with checkpointing", f"{estimate.kept_bytes / GB:.2f} GB"),
        ("one GPU: activations kept, without", f"{estimate.kept_all_bytes / GB:.2f} GB"),
        ("one GPU: expected peak (limit 80 GB)", f"{estimate.peak_gb:.1f} GB"),
        (
            "one GPU's step: model / with recomputation",
            f"{estimate.model_flops / 1e12:.0f} / {estimate.done_flops / 1e12:.0f} TFLOP",
        ),
        (
            f"steps an epoch of {vlm_rows:,.0f} rows / of the run",
            f"{vlm_rows / fit.batch:.0f} / {fit.steps} "
            f"({fit.steps * fit.batch / vlm_rows:.1f} epochs)",
        ),
    ]
    for name, peak in PEAK_FLOPS.items():
        seconds = estimate.done_flops / (UTILISATION * peak)
        lines.append(
            (
                f"step on {name} at {UTILISATION:.0%} of {peak / 1e12:.0f} TFLOP/s (the run)",
                f"{seconds:.2f} s ({seconds * fit.steps / 3600:.1f} h)",
            )
        )
    return [
        *lines,
        (
            "gradients sent a step and GPU",
            f"{estimate.gradient_bytes / 2 * 2 * (gpus - 1) / gpus / GB:.2f} GB",
        ),
        ("disk: one checkpoint (two are kept)", f"{estimate.checkpoint_bytes / GB:.2f} GB"),
        ("disk: the finished model", f"{estimate.weights_bytes / GB:.2f} GB"),
        ("host memory: images of all rows", f"{rows * height * width * 3 / GB:.0f} GB"),
        ("host memory and disk: hidden states of the planners' rows", f"{hidden_gb:.0f} GB"),
    ]


if __name__ == "__main__":
    main()
