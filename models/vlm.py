"""Qwen2.5-VL with action tokens: logits of the latent-action codes, and their constrained decoding.

A small model built from a configuration and published weights from a local folder run through the
same class. The embeddings of the action tokens are one trainable matrix that serves as input
embedding and as rows of the LM head (Qwen2.5-VL ties the two); `save` writes them back into the
vocabulary, so that the folder is a plain Qwen2.5-VL checkpoint.

Legend: B rows, L prompt tokens, V visual tokens, S code slots, K codes, D hidden width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

from models.vlm_config import VlmConfig
from models.vlm_inputs import VlmInputs, VlmProcessor


@dataclass(frozen=True, slots=True)
class Decoded:
    """Greedily decoded codes of a batch, without teacher forcing, and the hidden states."""

    codes_BS: torch.Tensor  # int64
    logits_BSK: torch.Tensor  # of each slot, given the model's own earlier codes
    action_BSD: torch.Tensor  # last hidden states that predict the codes
    visual_BVD: torch.Tensor  # last hidden states at the image tokens


class ActionVlm(nn.Module):
    """Qwen2.5-VL with one action token for each code of the codebook."""

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, processor: VlmProcessor, slots: int
    ) -> None:
        super().__init__()
        _replace_slow_layers(model)
        self.model, self.processor, self.slots = model, processor, slots
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
        # an untied LM head, as in the larger models, is not used
        if model.lm_head.weight.data_ptr() != table.data_ptr():
            model.lm_head.requires_grad_(False)

    @classmethod
    def build(cls, config: VlmConfig) -> "ActionVlm":
        """A model ready for training: a small one with weights drawn from torch's global generator,
        or one from `config.pretrained`.
        """
        if config.pretrained is not None:
            vlm = cls.from_pretrained(
                Path(config.pretrained),
                dtype=config.dtype,
                attention=config.attention,
                codes=config.codes,
                slots=config.slots,
            )
        else:
            processor = VlmProcessor.build(config.codes)
            model = Qwen2_5_VLForConditionalGeneration._from_config(
                _small_config(config, processor),
                attn_implementation=config.attention,
                dtype=getattr(torch, config.dtype),
            )
            vlm = cls(model, processor, config.slots)
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
    ) -> "ActionVlm":
        """Weights, tokenizer and image processor from a local folder: one written by save(), or
        published Qwen2.5-VL weights.

        The configuration that save() writes holds the numbers of codes and slots; `codes` and
        `slots` apply to published weights, whose configuration has neither.
        """
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        codes = getattr(config, "action_codes", codes)
        slots = getattr(config, "action_slots", slots)
        processor = VlmProcessor.from_pretrained(folder, codes)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            attn_implementation=attention,
            local_files_only=True,
        )
        return cls(model, processor, slots)

    def save(self, folder: Path) -> None:
        """Write a plain Qwen2.5-VL folder: weights with merged adapters and the action tokens'
        embeddings, tokenizer, image processor.
        """
        if self._adapters is not None:
            self.model = self._adapters.merge_and_unload()
            self._adapters = None
        first = self.processor.first_action
        with torch.no_grad():
            # both are the same memory if the model ties them
            for table in (_embedding_table(self.model), self.model.lm_head.weight):
                table[first : first + self.processor.codes] = self.action_rows_KD.to(table.dtype)
        self.model.config.action_codes = self.processor.codes
        self.model.config.action_slots = self.slots
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
    def decode(self, inputs: VlmInputs, slots: int | None = None) -> Decoded:
        """Greedy decoding over the action tokens, `slots` codes a row.

        Image and prompt are encoded once; each code after the first is one step with a cache.
        """
        slots = slots or self.slots
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
        """A function (number of the step, embedding (B, 1, D)) -> hidden state (B, D) of the next
        token.

        For a batch without padding it calls the layers of the language model directly: its forward
        would compute rotary angles and a mask again for every token.
        """
        language, start = self.model.model.language_model, inputs.input_ids_BL.shape[1]
        if bool(inputs.pad_B.any()):
            return lambda number, embeds_B1D: self._run(
                inputs, embeds_B1D, start=start + number, use_cache=True, past_key_values=cache
            ).last_hidden_state[:, 0]
        positions_31S = inputs.positions_3T[:, None, start : start + steps]
        cosine_1Sd, sine_1Sd = language.rotary_emb(_embedding_table(self.model)[:1], positions_31S)

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
        index_BL = (
            torch.arange(start, start + length, device=pad_B.device)[None] - pad_B[:, None]
        ).clamp(min=0)
        mask = None
        if bool(pad_B.any()):
            mask = (
                torch.arange(start + length, device=pad_B.device)[None] >= pad_B[:, None]
            ).long()
        return self.model.model.language_model(
            inputs_embeds=embeds_BLD,
            position_ids=inputs.positions_3T[:, index_BL],
            attention_mask=mask,
            **({"use_cache": False} | cache),
        )

    def _add_adapters(self, rank: int) -> None:
        """Add LoRA to the language model's projections; vision tower and vocabulary are frozen."""
        from peft import LoraConfig, get_peft_model

        target = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        wrapped = get_peft_model(
            self.model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target)
        )
        # not registered as a submodule: its parameters are already in self.model
        object.__setattr__(self, "_adapters", wrapped)


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
