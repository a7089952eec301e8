"""Qwen2.5-VL that speaks latent actions: next-token loss over 16 action tokens, and their
constrained decoding.

Not the planner. The small model built from a config and real weights from a local folder are the
same class and the same code. The 16 action rows are one trainable matrix that serves as embedding
and as rows of the LM head (Qwen2.5-VL ties the two); `save` writes them back into the vocabulary,
so that the folder is a plain Qwen2.5-VL checkpoint. Legend: B rows, L prompt tokens, V visual
tokens, S code slots, K = 16 codes, D hidden width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

from models.vlm_config import VlmConfig
from models.vlm_inputs import CODE_COUNT, VlmInputs, VlmProcessor

CODE_SLOTS = 12


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the model itself said about a batch, greedily and with no look at the true codes."""

    codes_BS: torch.Tensor  # int64
    # over the 16 codes, each slot after the model's own earlier codes
    logits_BSK: torch.Tensor
    action_BSD: torch.Tensor  # last hidden states that predict the codes
    visual_BVD: torch.Tensor  # last hidden states at the image tokens


class ActionVlm(nn.Module):
    """Qwen2.5-VL with 16 action tokens."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: VlmProcessor) -> None:
        super().__init__()
        _quicken(model)
        self.model, self.processor = model, processor
        self._adapters: Any = None
        # real weights have spare rows, so they are not resized
        if len(processor.tokenizer) > _table(model).shape[0]:
            model.resize_token_embeddings(len(processor.tokenizer))
        rows = slice(processor.first_action, processor.first_action + CODE_COUNT)
        table = _table(model)
        known = table[rows].clone()
        # tokens without a past start near the mean of the vocabulary
        if processor.new_actions:
            known = table[: rows.start].mean(dim=0) + 0.02 * torch.randn(known.shape).to(known)
        # float32 in every format: bfloat16 would lose the steps
        self.action_rows_KD = nn.Parameter(known.float())
        # untied, as in the larger models: never asked
        if model.lm_head.weight.data_ptr() != table.data_ptr():
            model.lm_head.requires_grad_(False)

    @classmethod
    def build(cls, config: VlmConfig) -> "ActionVlm":
        """A model ready for training: new and small, or from `config.pretrained`; torch's global
        generator seeds it.
        """
        if config.pretrained is not None:
            vlm = cls.from_pretrained(
                Path(config.pretrained), dtype=config.dtype, attention=config.attention
            )
        else:
            processor = VlmProcessor.build()
            model = Qwen2_5_VLForConditionalGeneration._from_config(
                _small_config(config, processor),
                attn_implementation=config.attention,
                dtype=getattr(torch, config.dtype),
            )
            vlm = cls(model, processor)
        return vlm.prepare(config)

    def prepare(self, config: VlmConfig) -> "ActionVlm":
        """Itself, ready for training as `config` says: with adapters, and with gradient
        checkpointing.
        """
        if config.lora_rank:
            self._add_adapters(config.lora_rank)
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
            # it sends gradients through a frozen vision tower, for nothing
            self.model.disable_input_require_grads()
        return self

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: str = "float32", attention: str = "sdpa"
    ) -> "ActionVlm":
        """Weights, tokenizer and image processor from a local folder: one of ours, or real
        Qwen2.5-VL weights.
        """
        processor = VlmProcessor.from_pretrained(folder)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            attn_implementation=attention,
            local_files_only=True,
        )
        return cls(model, processor)

    def save(self, folder: Path) -> None:
        """Write a plain Qwen2.5-VL folder: adapters merged, action rows in place, tokenizer, image
        processor.
        """
        if self._adapters is not None:
            self.model = self._adapters.merge_and_unload()
            self._adapters = None
        first = self.processor.first_action
        with torch.no_grad():
            # the same memory where the two are tied
            for table in (_table(self.model), self.model.lm_head.weight):
                table[first : first + CODE_COUNT] = self.action_rows_KD.to(table.dtype)
        self.model.save_pretrained(folder)
        self.processor.save(folder)

    def forward(self, inputs: VlmInputs, codes_BS: torch.Tensor) -> torch.Tensor:
        """Logits (B, S, K) of each code given the image, the prompt and the codes before it."""
        prompt_BLD = self._embed(inputs)
        embeds_BLD = torch.cat(
            [prompt_BLD, self.action_rows_KD[codes_BS[:, :-1]].to(prompt_BLD.dtype)], dim=1
        )
        hidden_BLD = self._run(inputs, embeds_BLD, start=0).last_hidden_state
        return hidden_BLD[:, -codes_BS.shape[1] :].float() @ self.action_rows_KD.T

    @torch.no_grad()
    def decode(self, inputs: VlmInputs, slots: int = CODE_SLOTS) -> Decoded:
        """Greedy decoding over the 16 action tokens: the image and the prompt are read once, each
        code is one step.
        """
        out = self._run(inputs, self._embed(inputs), start=0, use_cache=True)
        is_visual_BL = inputs.input_ids_BL == self.processor.image_pad
        visual_BVD = out.last_hidden_state[is_visual_BL].view(
            len(is_visual_BL), -1, out.last_hidden_state.shape[-1]
        )
        hidden, logits, codes = [out.last_hidden_state[:, -1]], [], []
        step = self._steps(inputs, out.past_key_values, slots - 1)
        for slot in range(slots):
            logits.append(hidden[-1].float() @ self.action_rows_KD.T)
            codes.append(logits[-1].argmax(dim=-1))
            if slot + 1 < slots:
                hidden.append(
                    step(slot, self.action_rows_KD[codes[-1]][:, None].to(hidden[-1].dtype))
                )
        return Decoded(
            torch.stack(codes, 1), torch.stack(logits, 1), torch.stack(hidden, 1), visual_BVD
        )

    def _steps(
        self, inputs: VlmInputs, cache: Any, steps: int
    ) -> Callable[[int, torch.Tensor], torch.Tensor]:
        """A function (number of the step, embedding (B, 1, D)) -> hidden state (B, D) of one token
        more.

        Without padding it goes through the class's layers alone: its forward would work out rotary
        angles and a mask anew for every token, and here nothing is masked.
        """
        language, start = self.model.model.language_model, inputs.input_ids_BL.shape[1]
        if bool(inputs.pad_B.any()):
            return lambda number, embeds_B1D: self._run(
                inputs, embeds_B1D, start=start + number, use_cache=True, past_key_values=cache
            ).last_hidden_state[:, 0]
        positions_31S = inputs.positions_3T[:, None, start : start + steps]
        cosine_1Sd, sine_1Sd = language.rotary_emb(_table(self.model)[:1], positions_31S)

        def step(number: int, hidden_B1D: torch.Tensor) -> torch.Tensor:
            angles = cosine_1Sd[:, number, None], sine_1Sd[:, number, None]
            for layer in language.layers:
                hidden_B1D = layer(
                    hidden_B1D, position_embeddings=angles, past_key_values=cache, use_cache=True
                )
            return language.norm(hidden_B1D)[:, 0]

        return step

    def _embed(self, inputs: VlmInputs) -> torch.Tensor:
        """Token embeddings (B, L, D) with the vision tower's output at the image tokens."""
        embeds_BLD = self.model.get_input_embeddings()(inputs.input_ids_BL)
        features = self.model.get_image_features(
            inputs.pixels, inputs.grid_thw_B3, return_dict=True
        ).pooler_output
        is_visual_BL1 = (inputs.input_ids_BL == self.processor.image_pad)[..., None]
        return embeds_BLD.masked_scatter(
            is_visual_BL1, torch.cat(tuple(features)).to(embeds_BLD.dtype)
        )

    def _run(self, inputs: VlmInputs, embeds_BLD: torch.Tensor, *, start: int, **cache: object):
        """The language model over positions start, start + 1, ... of the (left-padded) sequence."""
        length, pad_B = embeds_BLD.shape[1], inputs.pad_B
        place_BL = (
            torch.arange(start, start + length, device=pad_B.device)[None] - pad_B[:, None]
        ).clamp(min=0)
        mask = None
        if bool(pad_B.any()):
            mask = (
                torch.arange(start + length, device=pad_B.device)[None] >= pad_B[:, None]
            ).long()
        return self.model.model.language_model(
            inputs_embeds=embeds_BLD,
            position_ids=inputs.positions_3T[:, place_BL],
            attention_mask=mask,
            **({"use_cache": False} | cache),
        )

    def _add_adapters(self, rank: int) -> None:
        """LoRA on every projection of the language model; vision tower and vocabulary stay as they
        are.
        """
        from peft import LoraConfig, get_peft_model

        target = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        wrapped = get_peft_model(
            self.model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target)
        )
        # not a submodule: its parameters are already in self.model
        object.__setattr__(self, "_adapters", wrapped)


class _PatchProduct(nn.Module):
    """The class's patch embedding, its convolution over patches that do not overlap done as the
    matrix product it is.
    """

    def __init__(self, proj: nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        weight = self.proj.weight.flatten(1)
        return F.linear(pixels.view(-1, weight.shape[1]).to(weight.dtype), weight)


def _quicken(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Put layers that do the same in fewer steps in the place of the class's own; names and weights
    stay.
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


def _table(model: Qwen2_5_VLForConditionalGeneration) -> torch.Tensor:
    """The embedding matrix of the whole vocabulary, outside autograd."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight.detach()


def _small_config(config: VlmConfig, processor: VlmProcessor) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL's own configuration at our sizes."""

    def token(name: str) -> int:
        return processor.tokenizer.get_vocab()[f"<|{name}|>"]

    # rotary pairs, divided among time, rows and columns
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
