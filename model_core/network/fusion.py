"""One vector from an item's parts (text, image, audio, links, id), whichever of them are there.

The parts come projected to one width and stacked, with a mask. A masked part has no influence whatever stands
in its place. Every mode starts out as the masked sum, so what is learned is what the mode adds to it:

sum
    The masked sum itself, without parameters.
concat
    A linear map of the parts side by side, which also reads which of them are there (the missing-indicator
    of Little & Rubin 2002): each part has a map of its own.
gated
    Attention over the parts present, scored by the gated unit of Ilse, Tomczak & Welling 2018,
    "Attention-based deep multiple instance learning", equation 9; the weights sum to the number of parts.
deep
    The sum and a correction: a pre-norm transformer block (Vaswani et al. 2017; Xiong et al. 2020) over the
    parts present and a readout token of its own, as BERT's [CLS].
joint
    A gate on each part, one number a channel, that reads all parts (Arevalo et al. 2017, "Gated multimodal
    units"), and the sum, in a space where `alignment_loss` draws an item's parts to its behaviour.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = -1e9  # as a logit: no weight; finite, since a softmax over nothing but -inf is not a number


class _Sum(nn.Module):
    def __init__(self, dim: int, n_parts: int) -> None:
        super().__init__()

    def forward(self, parts: Tensor, mask: Tensor) -> Tensor:
        return parts.sum(1)


class _Concat(nn.Module):
    def __init__(self, dim: int, n_parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_parts * (dim + 1), dim)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.weight[:, : n_parts * dim] = torch.eye(dim).repeat(1, n_parts)
            self.linear.bias.zero_()

    def forward(self, parts: Tensor, mask: Tensor) -> Tensor:
        vectors: Tensor = self.linear(torch.cat((parts.reshape(parts.shape[0], -1), mask.to(parts.dtype)), 1))
        return vectors


class _Gated(nn.Module):
    def __init__(self, dim: int, n_parts: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(n_parts, dim) * dim**-0.5)
        self.signal = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, parts: Tensor, mask: Tensor) -> Tensor:
        told = parts + self.kind
        logits = self.score(torch.tanh(self.signal(told)) * torch.sigmoid(self.gate(told))).squeeze(-1)
        weights = torch.softmax(logits.masked_fill(~mask, _HIDDEN), 1) * mask  # (n, M)
        weights = weights * mask.sum(1, keepdim=True)
        return (parts * weights.unsqueeze(-1)).sum(1)


class _Deep(nn.Module):
    def __init__(self, dim: int, n_parts: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(n_parts, dim) * dim**-0.5)
        self.readout = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        self.before = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.merge = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, parts: Tensor, mask: Tensor) -> Tensor:
        readout = self.readout.expand(parts.shape[0], -1, -1)
        tokens = self.before(torch.cat((readout, parts + self.kind), 1))  # (n, 1 + M, dim)
        here = torch.cat((torch.ones_like(mask[:, :1]), mask), 1)
        keys, values = self.key_value(tokens).split(tokens.shape[-1], -1)
        # Only the readout asks: what the parts would learn of each other is read nowhere.
        logits = (self.query(tokens[:, :1]) * keys).sum(-1) / keys.shape[-1] ** 0.5  # (n, 1 + M)
        weights = torch.softmax(logits.masked_fill(~here, _HIDDEN), 1)
        state = readout[:, 0] + self.merge((values * weights.unsqueeze(-1)).sum(1))
        vectors: Tensor = parts.sum(1) + self.out(state + self.mlp(state))
        return vectors


class _Joint(nn.Module):
    def __init__(self, dim: int, n_parts: int) -> None:
        super().__init__()
        self.heads = nn.Parameter(torch.eye(dim).repeat(n_parts, 1, 1))
        self.gate = nn.Linear(n_parts * (dim + 1), n_parts * dim)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def align(self, parts: Tensor) -> Tensor:
        return (parts.transpose(0, 1) @ self.heads).transpose(0, 1)

    def forward(self, parts: Tensor, mask: Tensor) -> Tensor:
        joint = self.align(parts)
        read = torch.cat((joint.reshape(joint.shape[0], -1), mask.to(parts.dtype)), 1)
        return (joint * 2 * torch.sigmoid(self.gate(read)).reshape(joint.shape)).sum(1)


_MIXERS: dict[str, Callable[[int, int], nn.Module]] = {
    "sum": _Sum,
    "concat": _Concat,
    "gated": _Gated,
    "deep": _Deep,
    "joint": _Joint,
}
MODES = tuple(_MIXERS)
"""Names of the ways to fuse, simplest first."""


class Fusion(nn.Module):
    """Fuse the parts of each item that are there; see the module for the modes.

    An item without any part gets a finite vector, the same for all such items: zero where the mode is "sum",
    "gated" or "joint", a learned one where it is "concat" or "deep".

    Parameters
    ----------
    mode
        One of `MODES`.
    dim
        Width of parts and of the result.
    names
        What the parts are, in their order; distinct.

    Raises
    ------
    ValueError
        If the mode is unknown, the width not positive, or the names are none or repeated.
    """

    def __init__(self, mode: str, dim: int, names: Sequence[str]) -> None:
        super().__init__()
        if mode not in _MIXERS:
            raise ValueError(f"mode must be one of {list(MODES)}, got {mode!r}")
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if not names or len(set(names)) < len(names):
            raise ValueError(f"names must be distinct and at least one, got {list(names)}")
        self.mode = mode
        self.dim = dim
        self.names = tuple(names)
        self.mixer = _MIXERS[mode](dim, len(names))

    def forward(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Fuse n items.

        Parameters
        ----------
        parts : (n, M, dim) float, in the order of `names`; masked entries may hold anything
        mask : (n, M) bool, True where the part is there

        Returns
        -------
        vectors : (n, dim) float
        """
        vectors: Tensor = self.mixer(_present(parts, mask), mask)
        return vectors

    def aligned(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Parts in the space that `alignment_loss` should compare, masked ones zero: (n, M, dim).

        With "joint" it has a linear map for each part; in the other modes it is that of the parts themselves.
        """
        parts = _present(parts, mask)
        return self.mixer.align(parts) if isinstance(self.mixer, _Joint) else parts


def _present(parts: Tensor, mask: Tensor) -> Tensor:
    # A product would keep what is not finite.
    return parts.masked_fill(~mask.unsqueeze(-1), 0.0)


def alignment_loss(parts: Tensor, mask: Tensor, behaviour: Tensor, temperature: float = 0.2) -> Tensor:
    """Symmetric InfoNCE between each part of an item and its behaviour vector, mean over parts.

    Among the n items that have a part, each part shall find its item's behaviour vector and each behaviour
    vector its part, by cosine over temperature: Radford et al. 2021 (CLIP), section 2.3, after van den Oord,
    Li & Vinyals 2018, equation 4. Between content and behaviour it places new items among known ones (CLCRec,
    Wei et al. 2021). A part that fewer than two items have tells nothing and is left out; without any the
    loss is 0.

    Parameters
    ----------
    parts : (n, M, dim) float, as from `Fusion.aligned`
    mask : (n, M) bool
    behaviour : (n, dim) float, the vectors of the same items from ids or a graph; the items must be distinct,
        else they count as each other's negatives
    temperature
        Divides cosines; small tells near ones apart.

    Returns
    -------
    loss : () float, nats

    Raises
    ------
    ValueError
        If the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    losses = []
    unit = functional.normalize(behaviour, dim=-1)
    for m in range(parts.shape[1]):
        rows = mask[:, m].nonzero().squeeze(1)
        if len(rows) < 2:
            continue
        logits = functional.normalize(parts[rows, m], dim=-1) @ unit[rows].T / temperature
        own = torch.arange(len(rows), device=logits.device)
        losses.append((functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2)
    return torch.stack(losses).mean() if losses else parts.new_zeros(())


def modality_dropout(mask: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Hide parts at random, so that training meets items that lack them; never an item's last part.

    Each part goes with probability `share`; where all would go, one of them drawn at random stays
    (Neverova et al. 2016, "ModDrop", with that exception).

    Parameters
    ----------
    mask : (n, M) bool
    share
        In [0, 1]; at 1 exactly one part of each item stays.
    generator
        Of the mask's device.

    Returns
    -------
    mask : (n, M) bool, a new tensor

    Raises
    ------
    ValueError
        If the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    draws = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, -1.0)
    stays = torch.zeros_like(mask).scatter_(1, draws.argmax(1, keepdim=True), True)
    return mask & ((draws >= share) | stays)
