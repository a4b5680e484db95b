"""A real transformer encoder with its tokenizer, so small that training it takes moments."""

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = ["space", "robots", "love", "letters", "court", "trial", "part", *map(str, range(60))]
KINDS = ["space robots", "love letters", "court trial"]


def write_tiny_encoder(folder: Path) -> None:
    """Write a folder in Hugging Face layout; weights are random and always the same."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ";", ".", *WORDS]
    BertTokenizerFast(vocab={name: row for row, name in enumerate(names)}).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
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
