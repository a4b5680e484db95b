"""A real transformer encoder with its tokenizer, so small that training it takes moments."""

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging

from model_core.release.bert_graph import export_bert
from model_core.release.text_encoder import MAX_TOKENS, TextEncoder, find_source

WORDS = ["space", "robots", "love", "letters", "court", "trial", "part", *map(str, range(60))]
KINDS = ["space robots", "love letters", "court trial"]


def write_tiny_encoder(folder: Path, *, seed: int = 0) -> None:
    """Write a folder in Hugging Face layout; weights are random, and the same for a seed."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ";", ".", *WORDS]
    BertTokenizerFast(vocab={name: row for row, name in enumerate(names)}).save_pretrained(folder)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(
            BertConfig(
                vocab_size=len(names),
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
            )
        )
    model.save_pretrained(folder)


def exported(name: str, out: Path, *, max_tokens: int = MAX_TOKENS) -> TextEncoder:
    """Export a BERT, by name or folder, into a new folder."""
    out.mkdir(parents=True)
    export_bert(Path(find_source(name)), out, name=name, max_tokens=max_tokens)
    return TextEncoder(out)
