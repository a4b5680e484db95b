"""The layer that reads histories: attention that knows distance and time, and gates on what it adds.

Weights of attention get a bias for how many events lie between two and one for how much time does, per head,
as in HSTU (Zhai et al. 2024, "Actions speak louder than words", section 3.3). What attention and the
feed-forward part add is gated by what the token is, as in LiGR (Borisyuk et al. 2025, "From features to
transformers"), and the feed-forward part is a SwiGLU (Shazeer 2020, "GLU variants improve transformer").

Shapes: B histories, T tokens, the first of which is no event but the state before any.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

KNOTS, DOUBLINGS = 10, 3.0
"""Of the bias by time: 0 s, 7 s, 1 min, 9 min, 68 min, 9 h, 3 d, 24 d, 194 d and 4 y."""
BEFORE = 2.0**40
"""Where in time the first token stands: after all others, so that none is any time after it."""


def elapsed(gap_s: Tensor) -> Tensor:
    """Place the time from each token to each other among the knots, linear in log2(1 + seconds).

    Parameters
    ----------
    gap_s : (B, T - 1) float32, seconds since the event before, 0 of the first and of padding

    Returns
    -------
    places : (B, T, T) float32 in [0, KNOTS - 1], of a token (axis 1) after another (axis 2)
    """
    # In double precision: after years a float32 is seconds off.
    at = torch.cat((torch.full_like(gap_s[:, :1], BEFORE), gap_s), 1).double()
    at = torch.cat((at[:, :1], at[:, 1:].cumsum(1)), 1)
    between = (at.unsqueeze(2) - at.unsqueeze(1)).clamp(min=0.0).to(gap_s.dtype)
    return (torch.log2(1.0 + between) / DOUBLINGS).clamp(max=KNOTS - 1.0)


def shares(places: Tensor) -> Tensor:
    """Share that each knot has in a place, of two at most: (B, T, T) to (B, KNOTS, T, T)."""
    knots = torch.arange(KNOTS, dtype=places.dtype, device=places.device).view(-1, 1, 1)
    # In place: these are the largest arrays of a training step, and fresh memory costs more than a pass.
    return (places.unsqueeze(1) - knots).abs_().neg_().add_(1.0).relu_()


class Block(nn.Module):
    """A pre-norm layer of attention and SwiGLU, each gated, over tokens that read those before them.

    Parameters
    ----------
    length : the most tokens
    """

    def __init__(self, dim: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.read = nn.Linear(dim, 4 * dim)  # query, key, value, gate
        self.out = nn.Linear(dim, dim)
        self.wide_norm = nn.LayerNorm(dim)
        self.wide = nn.Linear(dim, 5 * dim)  # SwiGLU's two halves, gate
        self.narrow = nn.Linear(2 * dim, dim)
        self.drop = nn.Dropout(dropout)
        # The first token is not an event but a place to start from, so it has a bias of its own.
        self.distance = nn.Parameter(torch.zeros(heads, length))
        self.elapsed = nn.Parameter(torch.zeros(heads, KNOTS))
        self.start = nn.Parameter(torch.zeros(heads))

    def lags(self, t: int) -> Tensor:
        """What the distance between t tokens adds to the weights of attention: (heads, T, T)."""
        at = torch.arange(t, device=self.distance.device)
        bias = self.distance[:, (at.unsqueeze(1) - at).clamp(min=0)]
        return torch.cat((self.start.view(-1, 1, 1).expand(-1, t, 1), bias[:, :, 1:]), -1)

    def bias(self, shared: Tensor) -> Tensor:
        """What distance and time add to the weights of attention: `shares` to (B, heads, T, T)."""
        b, t = shared.shape[0], shared.shape[-1]
        # A plain product of two and three axes would move the shares' axes, which is a copy of them.
        late = torch.bmm(self.elapsed.expand(b, -1, -1), shared.reshape(b, KNOTS, t * t))
        return late.reshape(b, self.heads, t, t) + self.lags(t)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Read tokens.

        Parameters
        ----------
        x : (B, T, dim); bias : (B or 1, heads, T, T), of `bias`, and very low where a token may not read
        """
        b, t, dim = x.shape
        read = self.read(self.norm(x))
        query, key, value = (
            read[..., :-dim].reshape(b, t, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        )
        weight = torch.softmax(query @ key.transpose(-1, -2) / (dim // self.heads) ** 0.5 + bias, -1)
        found = (weight @ value).transpose(1, 2).reshape(b, t, dim)
        x = x + self.drop(self.out(found)) * torch.sigmoid(read[..., -dim:])
        wide = self.wide(self.wide_norm(x))
        mixed = functional.silu(wide[..., : 2 * dim]) * wide[..., 2 * dim : -dim]
        x = x + self.drop(self.narrow(mixed)) * torch.sigmoid(wide[..., -dim:])
        return x
