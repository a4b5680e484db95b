"""SASRec as S3-Rec's code runs it, to measure ours against.

Kang & McAuley 2018, "Self-attentive sequential recommendation", in the form of the code that the published
figures are from (https://github.com/aHuiWang/CIKM2020-S3Rec, models.py): a post-norm encoder of 2 layers and
2 heads, width 64, GELU, dropout .5, learned places, the item embeddings of the input scoring the output.
"""

import torch
from torch import Tensor, nn

from tests.benchmarks.rivals.sequential import Tokens


class SasRec(nn.Module):
    """Item and place embeddings into a causal transformer; a `SequenceModel` without side information."""

    def __init__(
        self, n_items: int, *, dim: int = 64, heads: int = 2, layers: int = 2, length: int = 50,
        dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.length = length
        self.heads = heads
        self.items = nn.Embedding(n_items, dim)
        self.places = nn.Parameter(torch.empty(length, dim))
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        for value in self.parameters():
            if value.dim() > 1:
                nn.init.normal_(value, std=0.02)

    def tokens(self, rows: Tensor) -> Tokens:
        return Tokens(self.items(rows), None)

    def users(self, tokens: Tokens, place: Tensor) -> Tensor:
        batch, length = place.shape
        known = place >= 0
        vectors = tokens.vectors[place.clamp(min=0)] * known.unsqueeze(-1)
        x = self.drop(
            self.norm(vectors + self.places[-length:])
        )  # the last event is always at the last place
        causal = torch.ones(length, length, dtype=torch.bool, device=place.device).tril()
        own = torch.eye(length, dtype=torch.bool, device=place.device)
        hidden = ~((causal & known.unsqueeze(1)) | own)  # padding reads itself: else its softmax is empty
        return self.encoder(x, mask=hidden.repeat_interleave(self.heads, 0))
