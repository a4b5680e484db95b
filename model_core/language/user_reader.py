"""A user as read from the vectors of what they liked: self-attention, then additive attention (NRMS)."""

import torch
from torch import Tensor, nn


class UserReader(nn.Module):
    """Pools a history into one vector of unit length (Wu et al. 2019, NRMS, section 2.2).

    The attended history is added to the plain mean, through a projection that begins at zero: an untrained
    reader is the mean of the vectors, which is a fair recommender with a good text encoder.

    Parameters
    ----------
    dim
        Of the vectors.
    heads
        Of the self-attention; divides `width`.
    width
        Of the attention's inside.
    """

    def __init__(self, dim: int, *, heads: int = 4, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads={heads}, got {width}")
        self.inside = nn.Linear(dim, width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.weight = nn.Linear(width, 1, bias=False)
        self.outside = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.outside.weight)
        nn.init.zeros_(self.outside.bias)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Read histories: (b, dim); zero where a history is empty.

        Parameters
        ----------
        vectors : (b, length, dim), any value where the mask is False
        mask : (b, length) bool
        """
        known = mask.any(1, keepdim=True)
        # A row without any key would be a softmax over nothing: it attends its padding, and is zeroed below.
        safe = mask | ~known
        vectors = torch.where(mask.unsqueeze(-1), vectors, torch.zeros_like(vectors))
        inside = self.dropout(self.inside(vectors))  # (b, length, width)
        attended = self.attention(inside, inside, inside, key_padding_mask=~safe, need_weights=False)[0]
        states = self.norm(inside + attended)
        scores = self.weight(torch.tanh(self.query(states))).squeeze(-1)  # (b, length)
        share = scores.masked_fill(~safe, -torch.inf).softmax(1)
        pooled = (share.unsqueeze(-1) * states).sum(1)
        mean = vectors.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return nn.functional.normalize(mean + self.outside(pooled), dim=-1) * known
