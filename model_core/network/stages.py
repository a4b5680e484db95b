"""The ranker as it is served: three graphs, each with the fewest and narrowest passes that say the same.

What is said of a whole catalogue is no network: an inner product and a few numbers of each item, which
`model_core.release.retrieval` adds up between the second graph and the third. Here histories stand at the
left, after the token they start from, so that padding is what nothing before it can read, and no mask is
needed. Products with weights are of two axes, `x @ weight + bias`, which ONNX Runtime makes one operation of.

Shapes: B requests, T history positions (at most L), C candidates, S signals, H the head's hidden layer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_core.network.attention import KNOTS, Block, elapsed
from model_core.network.ensemble import EnsembleRanker, side_by_side
from model_core.network.ranker import Ranker

SHUT = -60.0
"""Added to the weight of what attention must not read. e**-60 is lost beside 1, yet no denormal number, which
costs the processor ten times a number."""


def action_table(ranker: Ranker) -> Tensor:
    """Vectors of action codes, of which 0 is none: (1 + n_actions, dim)."""
    own = ranker.action_own + ranker.action_sign[ranker.action_positive]
    return torch.cat((torch.zeros_like(own[:1]), own))


def slopes(block: Block) -> Tensor:
    """How much steeper a layer's bias by time gets at each knot but the last: (heads, KNOTS - 1)."""
    return torch.diff(torch.diff(block.elapsed), prepend=torch.zeros_like(block.elapsed[:, :1]))


class ServedBlock(nn.Module):
    """A `Block` over histories that begin at the left."""

    read_weight: Tensor
    read_bias: Tensor

    @torch.no_grad()
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        dim = block.out.in_features
        scale = torch.ones(4 * dim)
        scale[:dim] = (dim // block.heads) ** -0.5  # of the queries
        self.register_buffer("read_weight", (block.read.weight * scale.unsqueeze(1)).T, persistent=False)
        self.register_buffer("read_bias", block.read.bias * scale, persistent=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Read tokens, (B * T, dim) before and after; bias : (B, heads, T, T)."""
        block, dim = self.block, x.shape[1]
        b, _, t, _ = bias.shape
        read = block.norm(x) @ self.read_weight + self.read_bias
        query, key, value = (
            read[:, :-dim].reshape(b, t, 3, block.heads, dim // block.heads).permute(2, 0, 3, 1, 4)
        )
        weight = torch.softmax(query @ key.transpose(-1, -2) + bias, dim=-1)
        found = (weight @ value).transpose(1, 2).reshape(b * t, dim)
        x = x + plain(block.out, found) * torch.sigmoid(read[:, -dim:])
        wide = plain(block.wide, block.wide_norm(x))
        mixed = functional.silu(wide[:, : 2 * dim]) * wide[:, 2 * dim : -dim]
        return x + plain(block.narrow, mixed) * torch.sigmoid(wide[:, -dim:])


def plain(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a layer as a product and a sum, which a compressed release can store in fewer bits."""
    return x @ layer.weight.T + layer.bias


class HistoryStage(nn.Module):
    """Reads histories. It does not know the time of a request, so what it says holds until the next event."""

    actions: Tensor
    slopes: Tensor
    level: Tensor
    knots: Tensor

    @torch.no_grad()
    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        blocks: list[Block] = list(ranker.blocks)  # type: ignore[arg-type]
        self.ranker = ranker
        self.blocks = nn.ModuleList(ServedBlock(block) for block in blocks)
        self.register_buffer("actions", action_table(ranker), persistent=False)
        # A line from knot to knot is a sum of slopes, each from its knot on; the future is shut out.
        most = 1 + ranker.config.history_length
        level = torch.cat([block.lags(most) + block.elapsed[:, :1, None] for block in blocks])
        level = level + torch.ones(most, most).triu(1) * SHUT
        self.register_buffer("slopes", torch.cat([slopes(block) for block in blocks]), persistent=False)
        self.register_buffer("level", level, persistent=False)
        self.register_buffer("knots", torch.arange(KNOTS - 1.0).view(-1, 1, 1), persistent=False)

    def forward(self, tokens: Tensor, actions: Tensor, gap_s: Tensor) -> Tensor:
        """Read B histories, oldest event first, padded at the end.

        Parameters
        ----------
        tokens : (B, T, dim), vectors of the items; actions : (B, T) int64 codes
        gap_s : (B, T), seconds since the event before, 0 of the first

        Returns
        -------
        states : (B, 1 + T, dim), after no event, after the first, ...; what stands for padding says nothing
        """
        ranker = self.ranker
        b, t, dim = tokens.shape
        x = ranker.embed_norm(tokens + self.actions[actions] + ranker.gap(gap_s))
        x = torch.cat((ranker.begin.expand(b, 1, dim), x), dim=1).reshape(b * (t + 1), dim)
        steps = torch.relu(elapsed(gap_s).unsqueeze(1) - self.knots).reshape(b, KNOTS - 1, (t + 1) * (t + 1))
        bias = (self.slopes @ steps).reshape(b, len(self.level), t + 1, t + 1)
        bias = bias + self.level[:, : t + 1, : t + 1]
        biases = torch.split(bias, len(self.level) // len(self.blocks), 1)
        for block, bias in zip(self.blocks, biases, strict=True):
            x = block(x, bias)
        states: Tensor = x.reshape(b, t + 1, dim)
        return states


class UserStage(nn.Module):
    """Says what users ask of an item at the time of a request."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(
        self,
        last: Tensor,
        idle_s: Tensor,
        told: Tensor,
        user_entities: Tensor,
        user_entity_weights: Tensor,
    ) -> tuple[Tensor, ...]:
        """Read users.

        Parameters
        ----------
        last : (B, dim), the state after the last event; idle_s : (B,), seconds since
        told : (B,) float32, 1 where there is an event, else 0
        user_entities, user_entity_weights : (B, A), see `model_core.data.batches.ScoreBatch`

        Returns
        -------
        user (B, dim), match (B, dim), weights (B, S) of the signals' logarithms,
        scales (B, S) added to signals before, newcomer (B, 1), gains (B, 2) of the match and the head
        """
        ranker = self.ranker
        liked = ranker.liked(user_entities, user_entity_weights)
        user = ranker.user_vector(last, idle_s, told, liked)
        gains = ranker.gains(idle_s, told)
        weights = ranker.signal_weights(user) * gains[:, :-2]
        # A row a user, though they are alike: a graph's output must come from its inputs.
        scales = torch.exp(ranker.signal_scale - 3.0) * torch.ones_like(user[:, :1])
        return (
            user,
            ranker.match(user),
            weights,
            scales,
            ranker.newcomer(user) + ranker.lowered,
            gains[:, -2:],
        )


class CandidateStage(nn.Module):
    """Ranks the candidates that retrieval has brought; see `Ranker.judge`.

    A candidate's attention p sums to 1, so what is linear in the states it finds is made of the states, of
    which there are fewer than candidates, and then read by p. That goes for `ask`, and for the norm over
    user and findings: with z_t the user and state t side by side, less their mean, the candidate's vector
    less its mean is ``sum_t p_t z_t``, and of length squared ``p @ (z @ z.T) @ p``.
    """

    ask_weight: Tensor
    ask_bias: Tensor
    head_weight: Tensor
    head_bias: Tensor
    item_weight: Tensor
    centre: Tensor
    judge_weight: Tensor
    judge_bias: Tensor

    @torch.no_grad()
    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker
        dim, hidden = ranker.config.dim, ranker.config.hidden_dim
        norm, layer = ranker.head_norm, ranker.head_user
        for name, value in {
            "ask_weight": ranker.ask.weight / dim**0.5,
            "ask_bias": ranker.ask.bias.unsqueeze(1) / dim**0.5,
            "head_weight": (layer.weight * norm.weight).T,
            "head_bias": layer.weight @ norm.bias + layer.bias,
            "item_weight": ranker.head_item.weight.T,
            "centre": torch.eye(hidden) - 1.0 / hidden,
            "judge_weight": torch.cat((ranker.rank.weight, ranker.act.weight)).T * hidden**0.5,
            "judge_bias": torch.cat((ranker.rank.bias, ranker.act.bias)),
        }.items():
            self.register_buffer(name, value.contiguous(), persistent=False)

    def forward(
        self,
        user: Tensor,
        states: Tensor,
        shut: Tensor,
        vectors: Tensor,
        retrieved: Tensor,
        head_gain: Tensor,
        signals: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rank C candidates of B requests, each on its own.

        Parameters
        ----------
        user : (B, dim), of `UserStage`; states : (B, 1 + T, dim), of `HistoryStage`
        shut : (B, 1 + T), added to a state's weight: 0, or `SHUT` for padding
        vectors : (B, C, dim); retrieved : (B, C) retrieval scores; signals : (B, C, S)
        head_gain : (B, C), how much the head counts, 0 of an item that nobody has responded to

        Returns
        -------
        probability (B, C), logits (B, C, n_actions), features (B, C, feature_dim)
        """
        ranker = self.ranker
        spread, judged = self.judged(user, states, shut, vectors)
        rank = retrieved.unsqueeze(-1) + head_gain.unsqueeze(-1) * judged[:, :, :1]
        logit = ranker.platt[0] * rank + ranker.platt[1]
        probability = torch.sigmoid(logit)
        features = torch.cat((torch.ones_like(rank), probability, spread, torch.tanh(signals / 4)), dim=-1)
        return probability.squeeze(-1), logit + judged[:, :, 1:], features

    def judged(self, user: Tensor, states: Tensor, shut: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden layer of norm 1, (B, C, H), and what the head and each action make of it: (B, C, 1 + n)."""
        hidden = self.ranker.config.hidden_dim
        b, t, dim = states.shape
        flat = states.reshape(b * t, dim)
        keys = (flat @ self.ask_weight).reshape(b, t, dim)
        level = (flat @ self.ask_bias).reshape(b, 1, t) + shut.unsqueeze(1)
        weight = torch.softmax(vectors @ keys.transpose(-1, -2) + level, dim=-1)
        x = self.head(user, states, weight) * (vectors @ self.item_weight)
        x = x @ self.centre
        spread = x / ((x * x).sum(-1, keepdim=True) + hidden * EPSILON).sqrt()
        return spread, spread @ self.judge_weight + self.judge_bias

    def head(self, user: Tensor, states: Tensor, weight: Tensor) -> Tensor:
        """Norm and layer over what a user is and what a candidate finds in the history: (B, C, H)."""
        b, t, dim = states.shape
        z = torch.cat((user.unsqueeze(1).expand_as(states), states), dim=-1)
        z = z - z.mean(-1, keepdim=True)
        squares = weight * (weight @ (z @ z.transpose(-1, -2)))
        deviation = (squares.sum(-1, keepdim=True) / (2 * dim) + EPSILON).sqrt()
        read = (z.reshape(b * t, 2 * dim) @ self.head_weight).reshape(b, t, -1)
        return weight @ read / deviation + self.head_bias


class EnsembleHistoryStage(nn.Module):
    """`HistoryStage` of each member, which reads its own part of the items."""

    def __init__(self, ranker: EnsembleRanker) -> None:
        super().__init__()
        self.stages = nn.ModuleList(HistoryStage(member) for member in ranker.rankers)

    def forward(self, tokens: Tensor, actions: Tensor, gap_s: Tensor) -> Tensor:
        """See `HistoryStage.forward`."""
        read = zip(self.stages, side_by_side(tokens, len(self.stages)), strict=True)
        return torch.cat([stage(own, actions, gap_s) for stage, own in read], dim=-1)


class EnsembleCandidateStage(CandidateStage):
    """`CandidateStage` of the mean of what the members' heads say."""

    def __init__(self, ranker: EnsembleRanker) -> None:
        nn.Module.__init__(self)
        self.ranker = ranker
        self.stages = nn.ModuleList(CandidateStage(member) for member in ranker.rankers)

    def judged(self, user: Tensor, states: Tensor, shut: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """See `CandidateStage.judged`: the first member's hidden layer, and the mean of what all make."""
        wide = (side_by_side(part, len(self.stages)) for part in (user, states, vectors))
        found = [
            stage.judged(own, read, shut, some)
            for stage, own, read, some in zip(self.stages, *wide, strict=True)
        ]
        return found[0][0], sum(judged for _, judged in found) / len(found)


def served_stages(ranker: Ranker) -> tuple[nn.Module, UserStage, CandidateStage]:
    """Return what reads histories, users and candidates as a ranker, or an ensemble of them, does."""
    if isinstance(ranker, EnsembleRanker):
        return EnsembleHistoryStage(ranker), UserStage(ranker), EnsembleCandidateStage(ranker)
    return HistoryStage(ranker), UserStage(ranker), CandidateStage(ranker)


EPSILON = 1e-5
"""Of `nn.LayerNorm`."""
