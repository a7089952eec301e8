"""Qwen2.5-VL that predicts latent-action codes: a distribution for each code slot, in one pass.

A small model built from a configuration and published weights from a local folder run through the
same class. The embeddings of the action tokens are one trainable matrix, the rows of the LM head
that give the logits; `save` writes them back into the vocabulary, so that the folder is a plain
Qwen2.5-VL checkpoint, and the slot queries and projections of the ego status into a file beside it.
Adapters (LoRA) are float32 and stay apart from the weights, in peft's layout in a subfolder: merged
into bfloat16 weights, they would be rounded to another model than the one that was trained.

Legend: B rows, L prompt tokens, V visual tokens, S code slots, K codes, D hidden width.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

from models.linear_weights import linear_weights
from models.precision import without_autocast
from models.vlm_config import STATUS_WIDTH, BevImageConfig, VlmConfig
from models.vlm_inputs import VlmInputs, VlmProcessor

HEAD_FILE = "latent_actions.safetensors"  # slot queries and status projections, beside the weights
ADAPTERS_FOLDER = "adapters"  # LoRA in peft's layout, below the weights' folder
STATUS_TOKENS = 2


@dataclass(frozen=True, slots=True)
class CodePrediction:
    """Each slot's marginal code distribution for a batch, and the hidden states."""

    codes_BS: torch.Tensor  # int64, the most likely code of each slot
    logits_BSK: torch.Tensor
    action_BSD: torch.Tensor  # last hidden states of the slot queries
    visual_BVD: torch.Tensor  # last hidden states at the image tokens


class ActionVlm(nn.Module):
    """Qwen2.5-VL with one action token for each code of the codebook and one query for each slot.

    The slots are predicted in parallel, so each has its marginal distribution and one pass serves
    all of them.
    """

    status_scale_N: torch.Tensor

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: VlmProcessor,
        slots: int,
        bev: BevImageConfig | None,
        front_hw: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        _replace_slow_layers(model)
        self.model, self.processor, self.slots = model, processor, slots
        self.bev, self.front_hw = bev, front_hw
        self._adapters: Any = None
        # published weights have spare rows, so they are not resized
        if len(processor.tokenizer) > _embedding_table(model).shape[0]:
            model.resize_token_embeddings(len(processor.tokenizer))
        rows = slice(processor.first_action, processor.first_action + processor.codes)
        table = _embedding_table(model)
        initial = table[rows].clone()
        # new tokens start near the mean of the vocabulary
        if processor.new_actions:
            mean_D = table[: rows.start].mean(dim=0)
            initial = mean_D + 0.02 * torch.randn(initial.shape).to(initial)
        # float32 whatever the model's dtype: bfloat16 would round small steps away
        self.action_rows_KD = nn.Parameter(initial.float())
        width = self.action_rows_KD.shape[1]
        self.slot_queries_SD = nn.Parameter(0.02 * torch.randn(slots, width))
        self.status_tokens = nn.Sequential(
            nn.Linear(STATUS_WIDTH, width), nn.GELU(), nn.Linear(width, STATUS_TOKENS * width)
        )
        self.status_queries = nn.Sequential(
            nn.Linear(STATUS_WIDTH, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, slots * width),
        )
        scale_N = torch.tensor([0.1, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0])
        self.register_buffer("status_scale_N", scale_N, persistent=False)
        # an untied LM head, as in the larger models, is not used
        if model.lm_head.weight.data_ptr() != table.data_ptr():
            model.lm_head.requires_grad_(False)

    @property
    def tokens_after_prompt(self) -> int:
        """Status tokens and slot queries, which follow the prompt."""
        return STATUS_TOKENS + self.slots

    @classmethod
    def build(cls, config: VlmConfig) -> "ActionVlm":
        """A model ready for training: a small one with weights drawn from torch's global generator,
        or one from `config.pretrained`.

        Raises ValueError if `config.pretrained` has adapters already.
        """
        if config.pretrained is not None:
            vlm = cls.from_pretrained(
                Path(config.pretrained),
                dtype=config.dtype,
                attention=config.attention,
                codes=config.codes,
                slots=config.slots,
                bev=config.bev,
                front_hw=config.front_hw,
            )
            if vlm._adapters is not None:
                raise ValueError(
                    f"{config.pretrained} holds a VLM that was trained with adapters; start a new "
                    "training from the published weights"
                )
        else:
            processor = VlmProcessor.build(config.codes)
            model = Qwen2_5_VLForConditionalGeneration._from_config(
                _small_config(config, processor),
                attn_implementation=config.attention,
                dtype=getattr(torch, config.dtype),
            )
            vlm = cls(model, processor, config.slots, config.bev, config.front_hw)
        return vlm.prepare(config)

    def prepare(self, config: VlmConfig) -> "ActionVlm":
        """Add adapters and gradient checkpointing as configured; returns itself."""
        if config.lora_rank:
            self._add_adapters(config.lora_rank)
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
            # otherwise gradients would be computed through a frozen vision tower
            self.model.disable_input_require_grads()
        return self

    @classmethod
    def from_pretrained(
        cls,
        folder: Path,
        *,
        dtype: str = "float32",
        attention: str = "sdpa",
        codes: int = 16,
        slots: int = 12,
        bev: BevImageConfig | None = None,
        front_hw: tuple[int, int] | None = None,
    ) -> "ActionVlm":
        """Weights, tokenizer and image processor from a local folder: one written by save(), or
        published Qwen2.5-VL weights.

        The configuration that save() writes holds the numbers of codes and slots and what the
        images are; `codes`, `slots`, `bev` and `front_hw` apply to published weights, whose
        configuration has none.
        """
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        codes = getattr(config, "action_codes", codes)
        slots = getattr(config, "action_slots", slots)
        if hasattr(config, "action_bev"):
            bev = BevImageConfig(**config.action_bev) if config.action_bev else None
            # a VLM of before this setting has none
            front_hw = tuple(getattr(config, "action_front_hw", None) or ()) or None
        processor = VlmProcessor.from_pretrained(folder, codes)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            attn_implementation=attention,
            local_files_only=True,
        )
        vlm = cls(model, processor, slots, bev, front_hw)
        if (folder / HEAD_FILE).exists():
            vlm.load_state_dict(load_file(folder / HEAD_FILE), strict=False)
        if (folder / ADAPTERS_FOLDER).exists():
            vlm._load_adapters(folder / ADAPTERS_FOLDER)
        return vlm

    def save(self, folder: Path) -> None:
        """Write a plain Qwen2.5-VL folder (weights with the action tokens' embeddings, tokenizer,
        image processor), HEAD_FILE and, if there are adapters, ADAPTERS_FOLDER.
        """
        first = self.processor.first_action
        with torch.no_grad():
            # both are the same memory if the model ties them
            for table in (_embedding_table(self.model), self.model.lm_head.weight):
                table[first : first + self.processor.codes] = self.action_rows_KD.to(table.dtype)
        self.model.config.action_codes = self.processor.codes
        self.model.config.action_slots = self.slots
        self.model.config.action_bev = asdict(self.bev) if self.bev is not None else None
        self.model.config.action_front_hw = self.front_hw
        self.model.save_pretrained(folder, state_dict=self._state_without_adapters())
        if self._adapters is not None:
            # not the path of the weights on this machine: they are in the folder above
            self._adapters.peft_config["default"].base_model_name_or_path = ""
            self._adapters.save_pretrained(folder / ADAPTERS_FOLDER, save_embedding_layers=False)
            (folder / ADAPTERS_FOLDER / "README.md").unlink(missing_ok=True)  # an empty model card
        self.processor.save(folder)
        head = {
            name: value.detach().cpu().contiguous()
            for name, value in self.state_dict().items()
            if not name.startswith("model.")
        }
        save_file(head, folder / HEAD_FILE)

    def hidden_matrices(self) -> list[torch.Tensor]:
        """Weights of the linear layers inside the blocks of language model and vision tower."""
        inner = self.model.model
        return linear_weights(
            [inner.language_model.layers, inner.visual.blocks, inner.visual.merger]
        )

    def forward(self, inputs: VlmInputs, status_BN: torch.Tensor) -> torch.Tensor:
        """Logits (B, S, K) of each slot's marginal code distribution, given the images, the prompt
        and the ego status (B, 9) as FrameSet.motion_status.
        """
        return self._code_logits(self._slot_states(inputs, status_BN)[0])

    @torch.no_grad()
    def predict(self, inputs: VlmInputs, status_BN: torch.Tensor) -> CodePrediction:
        """Code distributions and hidden states of a batch, in one pass."""
        action_BSD, visual_BVD = self._slot_states(inputs, status_BN)
        logits_BSK = self._code_logits(action_BSD)
        return CodePrediction(logits_BSK.argmax(dim=-1), logits_BSK, action_BSD, visual_BVD)

    @without_autocast
    def _code_logits(self, action_BSD: torch.Tensor) -> torch.Tensor:
        """Logits (B, S, K), float32, from the hidden states of the slot queries."""
        return action_BSD.float() @ self.action_rows_KD.T

    def _slot_states(
        self, inputs: VlmInputs, status_BN: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states (B, S, D) of the slot queries and (B, V, D) of the image tokens.

        The ego status follows the prompt as tokens, and is added to the slot queries.
        """
        prompt_BLD = self._embed(inputs)
        status_BN = status_BN.float() * self.status_scale_N
        tokens_BED = self.status_tokens(status_BN).unflatten(-1, (STATUS_TOKENS, -1))
        queries_BSD = self.slot_queries_SD + self.status_queries(status_BN).unflatten(
            -1, (self.slots, -1)
        )
        extra_BED = torch.cat([tokens_BED, queries_BSD], dim=1).to(prompt_BLD.dtype)
        states_BLD = self._run(inputs, torch.cat([prompt_BLD, extra_BED], dim=1))
        is_visual_BL = F.pad(
            inputs.input_ids_BL == self.processor.image_pad, (0, extra_BED.shape[1])
        )
        visual_BVD = states_BLD[is_visual_BL].view(len(is_visual_BL), -1, states_BLD.shape[-1])
        return states_BLD[:, -self.slots :], visual_BVD

    def _embed(self, inputs: VlmInputs) -> torch.Tensor:
        """Token embeddings (B, L, D) with the vision tower's output at the image tokens."""
        embeds_BLD = self.model.get_input_embeddings()(inputs.input_ids_BL)
        features = self.model.get_image_features(
            inputs.pixels, inputs.grid_thw_I3, return_dict=True
        ).pooler_output
        is_visual_BL1 = (inputs.input_ids_BL == self.processor.image_pad)[..., None]
        return embeds_BLD.masked_scatter(
            is_visual_BL1, torch.cat(tuple(features)).to(embeds_BLD.dtype)
        )

    def _run(self, inputs: VlmInputs, embeds_BLD: torch.Tensor) -> torch.Tensor:
        """Last hidden states (B, L, D) of the language model over a left-padded sequence."""
        length, pad_B = embeds_BLD.shape[1], inputs.pad_B
        index_1L = torch.arange(length, device=pad_B.device)[None]
        padded = bool(pad_B.any())
        return self.model.model.language_model(
            inputs_embeds=embeds_BLD,
            position_ids=inputs.positions_3T[:, (index_1L - pad_B[:, None]).clamp(min=0)],
            attention_mask=(index_1L >= pad_B[:, None]).long() if padded else None,
            use_cache=False,
        ).last_hidden_state

    def _add_adapters(self, rank: int) -> None:
        """Add LoRA to the language model's projections; vision tower and vocabulary are frozen."""
        from peft import LoraConfig, get_peft_model

        target = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        self._set_adapters(
            get_peft_model(
                self.model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target)
            )
        )

    def _load_adapters(self, folder: Path) -> None:
        """Add the finished adapters in `folder`, frozen and not merged."""
        from peft import PeftModel

        self._set_adapters(PeftModel.from_pretrained(self.model, folder, torch_device="cpu"))

    def _set_adapters(self, wrapped: Any) -> None:
        # not registered as a submodule: its parameters are already in self.model
        object.__setattr__(self, "_adapters", wrapped)

    def _state_without_adapters(self) -> dict[str, torch.Tensor]:
        """Tensors of the model under the names they have without adapters."""
        return {
            name.replace(".base_layer.", "."): value
            for name, value in self.model.state_dict().items()
            if ".lora_" not in name
        }


class _PatchProduct(nn.Module):
    """Patch embedding with the weights of Qwen2.5-VL's convolution, computed as one matrix product,
    as the patches do not overlap.
    """

    def __init__(self, proj: nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        weight = self.proj.weight.flatten(1)
        return F.linear(pixels.view(-1, weight.shape[1]).to(weight.dtype), weight)


def _replace_slow_layers(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Replace the patch embedding and the RMS norms by faster equivalents with the same names and
    weights.
    """
    visual = model.model.visual
    if not isinstance(visual.patch_embed, _PatchProduct):
        visual.patch_embed = _PatchProduct(visual.patch_embed.proj)
    for module in [*model.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, Qwen2_5_VLRMSNorm):
                norm = nn.RMSNorm(len(child.weight), eps=child.variance_epsilon, device="meta")
                norm.weight = child.weight
                setattr(module, name, norm)


def _embedding_table(model: Qwen2_5_VLForConditionalGeneration) -> torch.Tensor:
    """The embedding matrix of the whole vocabulary, detached from autograd."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight.detach()


def _small_config(config: VlmConfig, processor: VlmProcessor) -> Qwen2_5_VLConfig:
    """Configuration of a Qwen2.5-VL with the sizes of `config`."""

    def token(name: str) -> int:
        return processor.tokenizer.get_vocab()[f"<|{name}|>"]

    # rotary frequency pairs, divided among time, rows and columns
    half_head = config.hidden // config.heads // 2
    spatial = 3 * half_head // 8
    return Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(processor.tokenizer),
            hidden_size=config.hidden,
            intermediate_size=8 * config.hidden // 3,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=max(config.heads // 2, 1),
            max_position_embeddings=2048,
            bos_token_id=None,
            eos_token_id=token("im_end"),
            pad_token_id=token("endoftext"),
            rope_parameters=dict(
                rope_type="default",
                rope_theta=1e6,
                mrope_section=[half_head - 2 * spatial, spatial, spatial],
            ),
        ),
        vision_config=dict(
            depth=config.vision_layers,
            hidden_size=config.vision_hidden,
            out_hidden_size=config.hidden,
            intermediate_size=8 * config.vision_hidden // 3,
            num_heads=config.heads,
            patch_size=processor.patch,
            spatial_merge_size=processor.merge,
            temporal_patch_size=processor.temporal,
            window_size=112,
            fullatt_block_indexes=list(range(config.vision_layers)),
        ),
        image_token_id=token("image_pad"),
        video_token_id=token("video_pad"),
        tie_word_embeddings=True,
        vision_start_token_id=token("vision_start"),
        vision_end_token_id=token("vision_end"),
    )
