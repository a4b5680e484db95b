"""A Hugging Face encoder as it is fine-tuned: whole, or by low-rank adapters that are merged when saved."""

import copy
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from model_core.release.text_encoder import MAX_TOKENS, find_source


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters on every linear layer (Hu et al. 2022, LoRA)."""

    rank: int = 8
    alpha: int = 16
    """The adapters' product is scaled by alpha / rank."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora rank must be at least 1, got {self.rank}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"lora dropout must be in [0, 1), got {self.dropout}")


class Backbone(nn.Module):
    """A transformer encoder with its tokenizer.

    Parameters
    ----------
    name
        "minilm" (from a Python package, needs no network), a folder in Hugging Face layout, or a Hugging Face
        name in the local cache or within reach.
    max_tokens
        Longest text, or pair of texts, in tokens; the rest is cut off. As many as are served, and as the
        encoder reads, when None.
    lora
        None trains every weight; else the weights stay and adapters are trained.

    Raises
    ------
    ValueError
        If no such encoder can be found, it reads fewer than `max_tokens`, or it cannot pad a batch.
    """

    def __init__(
        self, name: str = "minilm", *, max_tokens: int | None = 64, lora: LoraSettings | None = None
    ) -> None:
        super().__init__()
        self.tokenizer, model, self._missing = _load(name)
        limit = int(getattr(model.config, "max_position_embeddings", MAX_TOKENS))
        max_tokens = min(limit, MAX_TOKENS) if max_tokens is None else max_tokens
        self.name, self.max_tokens = name, max_tokens
        if not 4 <= max_tokens <= limit:
            raise ValueError(f"max_tokens must be in [4, {limit}] for {name!r}, got {max_tokens}")
        if self.tokenizer.pad_token is None:
            raise ValueError(f"text_encoder must be an encoder that pads its batches, got {name!r}")
        self.dim = int(model.config.hidden_size)
        self._types = int(getattr(model.config, "type_vocab_size", 0) or 0)
        if lora is not None:
            from peft import LoraConfig, get_peft_model  # takes a second, and only adapters need it

            settings = LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear"
            )
            model = get_peft_model(model, settings)
        self.model: Any = model
        self.adapted = lora is not None

    def hidden(self, input_ids: Tensor, attention_mask: Tensor, second: Tensor | None = None) -> Tensor:
        """Last hidden states: (b, t, dim).

        Parameters
        ----------
        input_ids, attention_mask : (b, t) int64
        second : (b, t) int64, 1 where a token is of the second of two texts
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if second is not None and self._types >= 2:  # some encoders tell texts apart by separators alone
            inputs["token_type_ids"] = second
        states: Tensor = self.model(**inputs).last_hidden_state
        return states

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors of unit length, pooled as an exported encoder pools: (b, dim)."""
        return nn.functional.normalize(
            mean_of(self.hidden(input_ids, attention_mask), attention_mask), dim=-1
        )

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask of texts, padded to the longest: (b, t) int64 each."""
        found = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Encode texts of any length and order, in batches of like length: (n, dim)."""
        device = next(self.parameters()).device
        order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
        parts = []
        for begin in range(0, len(order), batch_size):
            tokens = self.tokens([texts[row] for row in order[begin : begin + batch_size]])
            parts.append(self(**{name: value.to(device) for name, value in tokens.items()}))
        place = torch.empty(len(order), dtype=torch.long, device=device)
        place[torch.tensor(order, dtype=torch.long, device=device)] = torch.arange(len(order), device=device)
        return torch.cat(parts)[place]

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights that were read: what a head was given at random is none of them."""
        read = {name: value for name, value in self.model.state_dict().items() if name not in self._missing}
        return {name: value.cpu().numpy() for name, value in read.items()}

    def save(self, folder: Path) -> None:
        """Write a folder that Hugging Face loads, and that can be exported: safetensors, adapters merged in.

        A kill meanwhile leaves no half-written file under a name that is read.
        """
        model = self.model
        if self.adapted:
            model = copy.deepcopy(model).merge_and_unload()  # merging in place would end the training
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial, safe_serialization=True)
        self.tokenizer.save_pretrained(partial)
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(partial.iterdir()):
            os.replace(path, folder / path.name)
        partial.rmdir()


def mean_of(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of the hidden states under a mask: (b, t, dim), (b, t) -> (b, dim)."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def _load(name: str) -> tuple[Any, Any, frozenset[str]]:
    """Return the tokenizer, the model, and the names of weights that its files lack."""
    source = find_source(name)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model, told = AutoModel.from_pretrained(
            source, dtype=torch.float32, weights_only=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            "text_encoder must be 'minilm', a folder with a transformer, or a Hugging Face name in the cache "
            f"or reachable, got {name!r}: {reason}"
        ) from error
    return tokenizer, model, frozenset(told["missing_keys"])
