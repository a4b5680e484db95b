"""From a user's history to the best candidates of a whole catalogue.

Shapes: B requests, L history positions, N catalogue rows, S signals, A entities of a user, C candidates.
"""

import math

import torch
from torch import Tensor, nn

from model_core.data.batches import POPULARITY
from model_core.network.attention import Block, elapsed, shares
from model_core.network.config import ModelConfig

TIME_BASIS = 32  # gaps from 0 s to 2**31 s
NOT_ELIGIBLE = -1e9
SIGNAL_WEIGHTS = (0.8, 0.2, 0.6)  # to begin with: co-visits, popularity, EASE
HERE_S, AWAY_S = 600.0, 86_400.0  # a user whose last event is as long ago is here, or has been away


def is_new(signals: Tensor) -> Tensor:
    """Items that nobody has responded to: (B, S, M) signals to (B, M), 1 where so, else 0."""
    return (signals[:, POPULARITY] <= 0.0).to(signals.dtype)


class TimeGap(nn.Module):
    """A vector of a time gap: piecewise linear in log2(1 + seconds), so no rounding decides a bucket."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(TIME_BASIS, dim))
        self.register_buffer("centres", torch.arange(TIME_BASIS, dtype=torch.float32), persistent=False)
        self.centres: Tensor

    def forward(self, seconds: Tensor) -> Tensor:
        """(...,) float32 seconds to (..., dim)."""
        place = torch.log2(1.0 + seconds.clamp(min=0.0)).clamp(max=TIME_BASIS - 1.0).unsqueeze(-1)
        vectors: Tensor = torch.relu(1.0 - (place - self.centres).abs()) @ self.table
        return vectors


class Ranker(nn.Module):
    """History transformer, retrieval over the whole catalogue, and a candidate-isolated ranking head.

    Retrieval adds to the match of user and item vector the worker's signals, as
    ``weight_s(user) * log(scale_s + signal_s)``. The head corrects that score with what a candidate's own
    attention over the history finds. A candidate never sees another one. Each of these parts counts more or
    less while a user is here (`model_core.training.balance`). Of an item that nobody has responded to the
    head says nothing that helps, so it is not heard, and `model_core.training.newcomers` fits how much the
    match counts.
    """

    def __init__(
        self, config: ModelConfig, entities: nn.Embedding, action_weights: tuple[float, ...], dropout: float
    ) -> None:
        super().__init__()
        dim, hidden = config.dim, config.hidden_dim
        self.config = config
        # An action is its sign plus its own part, which starts at nothing: actions that no training row
        # has are then read as any other positive (or not positive) one.
        self.action_sign = nn.Parameter(torch.randn(2, dim) * 0.1)
        self.action_own = nn.Parameter(torch.zeros(len(action_weights), dim))
        self.register_buffer("action_positive", torch.tensor([int(w >= 1) for w in action_weights]))
        self.action_positive: Tensor
        self.gap = TimeGap(dim)
        self.idle = TimeGap(dim)
        self.begin = nn.Parameter(torch.randn(dim) * 0.1)
        self.embed_norm = nn.LayerNorm(dim)
        self.embed_drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, 1 + config.history_length, dropout) for _ in range(config.layers)
        )
        self.entities = entities  # the item encoder's: a user is near what they liked is linked to
        self.user_norm = nn.LayerNorm(dim)
        # A state begins as a match for items like its last ones, so that two that are taken together draw
        # towards each other in whichever order: input and output embeddings that are one (Press & Wolf 2017).
        self.user = nn.Linear(dim, dim)
        nn.init.eye_(self.user.weight)
        nn.init.zeros_(self.user.bias)
        self.item_bias = nn.Parameter(torch.zeros(dim))
        self.signal_weight = nn.Parameter(torch.log(torch.expm1(torch.tensor(SIGNAL_WEIGHTS))))
        self.signal_adapt = nn.Linear(dim, config.n_signals)
        self.signal_scale = nn.Parameter(torch.zeros(config.n_signals))
        nn.init.zeros_(self.signal_adapt.weight)
        nn.init.zeros_(self.signal_adapt.bias)
        self.newcomer = nn.Linear(dim, 1)
        nn.init.zeros_(self.newcomer.weight)
        nn.init.zeros_(self.newcomer.bias)
        self.ask = nn.Linear(dim, dim)
        self.head_norm = nn.LayerNorm(2 * dim)
        self.head_user = nn.Linear(2 * dim, hidden)
        self.head_item = nn.Linear(dim, hidden, bias=False)
        self.hidden_norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.rank = nn.Linear(hidden, 1)
        self.act = nn.Linear(hidden, len(action_weights))
        for layer in (self.rank, self.act):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Of each signal, the match and the head, while a user is here, and when they have been away.
        self.register_buffer("gains_here", torch.ones(config.n_signals + 2))
        self.register_buffer("gains_away", torch.ones(config.n_signals + 2))
        self.gains_here: Tensor
        self.gains_away: Tensor
        self.register_buffer("lowered", torch.zeros(1))  # what new items stand at with these gains, added
        self.lowered: Tensor
        self.register_buffer("platt", torch.tensor([1.0, 0.0]))
        self.platt: Tensor

    def states(self, tokens: Tensor, actions: Tensor, gap_s: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read histories.

        Parameters
        ----------
        tokens : (B, L, dim) item vectors; actions : (B, L) int64 codes from 1; gap_s : (B, L) float32,
        seconds since the event before; mask : (B, L) bool

        Returns
        -------
        states : (B, 1 + L, dim), the first one for the empty history
        known : (B, 1 + L) bool
        """
        b, length, dim = tokens.shape
        unknown = torch.zeros_like(self.action_own[:1])
        action_table = torch.cat((unknown, self.action_own + self.action_sign[self.action_positive]))
        x = self.embed_norm(tokens + action_table[actions] + self.gap(gap_s))
        x = torch.cat((self.begin.expand(b, 1, dim), self.embed_drop(x)), dim=1)
        known = torch.cat((torch.ones_like(mask[:, :1]), mask), dim=1)
        causal = torch.ones(length + 1, length + 1, dtype=torch.bool, device=x.device).tril()
        # Padding reads itself: a row with nothing allowed would have no softmax.
        own = torch.eye(length + 1, dtype=torch.bool, device=x.device)
        barred = ~((causal & known.unsqueeze(1)) | own).unsqueeze(1)
        shared = shares(elapsed(gap_s))
        layers: list[Block] = list(self.blocks)  # type: ignore[arg-type]
        for block in layers:
            x = block(x, block.bias(shared).masked_fill(barred, NOT_ELIGIBLE))
        return x, known

    def user_vector(self, state: Tensor, idle_s: Tensor, idle_known: Tensor, liked: Tensor) -> Tensor:
        """(..., dim) state after the last event, seconds since it (...,), entity vector (..., dim)."""
        x = state + self.idle(idle_s) * idle_known.unsqueeze(-1) + liked
        vector: Tensor = self.user_norm(x)
        return vector

    def liked(self, entities: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of entity vectors: (..., A) int64 and float32 to (..., dim)."""
        share = weights * (entities > 0)
        share = share / (share.sum(-1, keepdim=True) + 1e-6)
        vectors: Tensor = (self.entities(entities) * share.unsqueeze(-1)).sum(-2)
        return vectors

    def transform_signals(self, signals: Tensor, dim: int) -> Tensor:
        """Logarithms of signals, which lie along axis `dim`; their scale is learned."""
        shape = [1] * signals.dim()
        shape[dim] = -1
        shaped: Tensor = torch.log(torch.exp(self.signal_scale - 3.0).view(shape) + signals)
        return shaped

    def signal_weights(self, user: Tensor) -> Tensor:
        """(..., dim) to (..., S), never negative: more of a signal lowers no score, and none raises none."""
        weights: Tensor = nn.functional.softplus(self.signal_weight + self.signal_adapt(user))
        return weights

    def gains(self, idle_s: Tensor, idle_known: Tensor) -> Tensor:
        """Weights of the signals, the match and the head by idle time: (B,) and (B,) to (B, S + 2)."""
        here, away = math.log2(1.0 + HERE_S), math.log2(1.0 + AWAY_S)
        share = ((away - torch.log2(1.0 + idle_s.clamp(min=0.0))) / (away - here)).clamp(0.0, 1.0)
        share = (share * idle_known).unsqueeze(-1)
        gains: Tensor = self.gains_away + share * (self.gains_here - self.gains_away)
        return gains

    def prior(self, user: Tensor, signals: Tensor, gains: Tensor | None = None) -> Tensor:
        """Part of the retrieval score that the worker's signals make: (B, dim) and (B, S, M) to (B, M).

        An item that nobody has responded to has no signals rather than bad ones: a level of its own, learned
        too, lifts it.

        Parameters
        ----------
        gains : (B, S), by which the weights are multiplied; with them new items are `lowered`
        """
        shaped = self.transform_signals(signals, 1)
        weights = self.signal_weights(user) if gains is None else self.signal_weights(user) * gains
        known: Tensor = (weights.unsqueeze(1) @ shaped).squeeze(1)
        level = self.newcomer(user) if gains is None else self.newcomer(user) + self.lowered
        scores: Tensor = known + level * is_new(signals)
        return scores

    def match(self, user: Tensor) -> Tensor:
        """Vector whose inner product with an item's is the learned part of the retrieval score."""
        vectors: Tensor = (self.user(user) + self.item_bias) / self.config.dim**0.5
        return vectors

    def hidden(self, user: Tensor, vectors: Tensor, states: Tensor, allowed: Tensor) -> Tensor:
        """Last hidden layer of the head, each candidate on its own.

        It is what a candidate has in common with the user and with what it finds in the history: a product
        without constants, so it always tells candidates apart.

        Parameters
        ----------
        user : (B, ..., dim); vectors : (B, ..., M, dim); states : (B, T, dim); allowed : (B, ..., 1, T) bool

        Returns
        -------
        hidden : (B, ..., M, hidden_dim), of mean 0 and variance 1 each
        """
        keys = states if user.dim() == 2 else states.unsqueeze(1)
        weight = self.ask(vectors) @ keys.transpose(-1, -2) / self.config.dim**0.5  # (B, ..., M, T)
        found = torch.softmax(weight.masked_fill(~allowed, NOT_ELIGIBLE), dim=-1) @ keys
        x = self.head_norm(torch.cat((user.unsqueeze(-2).expand_as(found), found), dim=-1))
        hidden: Tensor = self.hidden_norm(self.head_user(x) * self.head_item(vectors))
        return hidden

    def read(
        self,
        tokens: Tensor,
        mask: Tensor,
        history_actions: Tensor,
        history_age_s: Tensor,
        user_entities: Tensor,
        user_entity_weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read the users of B requests: see `model_core.data.batches.ScoreBatch` for the arguments.

        Parameters
        ----------
        tokens : (B, L, dim), vectors of the history's items; what stands in padding does not matter
        mask : (B, L) bool, False = padding

        Returns
        -------
        user (B, dim), states (B, 1 + L, dim), known (B, 1 + L) bool, gains (B, S + 2)
        """
        age = history_age_s * mask
        before = torch.cat((age[:, :1], age[:, :-1]), dim=1)
        first = torch.cat((mask[:, :1], mask[:, 1:] & ~mask[:, :-1]), dim=1)
        gap = ((before - age) * ~first).clamp(min=0.0)
        states, known = self.states(tokens * mask.unsqueeze(-1), history_actions, gap, mask)
        any_known = mask.any(1)
        last = torch.where(any_known.unsqueeze(-1), states[:, -1], states[:, 0])
        liked = self.liked(user_entities, user_entity_weights)
        idle, told = age[:, -1], any_known.to(age.dtype)
        return self.user_vector(last, idle, told, liked), states, known, self.gains(idle, told)

    def retrieval(self, user: Tensor, gains: Tensor, items: Tensor, signals: Tensor) -> Tensor:
        """Retrieval scores of N items for B requests: (B, N).

        Parameters
        ----------
        user, gains : of `read`; items : (N, dim); signals : (B, S, N)
        """
        new = is_new(signals)
        counts = gains[:, -2:-1] * (1.0 - new) + new
        scores: Tensor = counts * (self.match(user) @ items.T) + self.prior(user, signals, gains[:, :-2])
        return scores

    def judge(
        self,
        user: Tensor,
        states: Tensor,
        known: Tensor,
        head_gain: Tensor,
        vectors: Tensor,
        retrieved: Tensor,
        signals: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rank C candidates of B requests, each on its own.

        Parameters
        ----------
        user, states, known : of `read`; head_gain : (B, 1), the last of its gains
        vectors : (B, C, dim); retrieved : (B, C) retrieval scores; signals : (B, C, S)

        Returns
        -------
        probability (B, C), logits (B, C, n_actions), features (B, C, feature_dim)
        """
        hidden = self.hidden(user, vectors, states, known.unsqueeze(1))
        heard = head_gain * (1.0 - is_new(signals.transpose(1, 2)))
        rank = retrieved + heard * self.rank(hidden).squeeze(-1)
        logit = self.platt[0] * rank + self.platt[1]
        probability = torch.sigmoid(logit)
        logits = logit.unsqueeze(-1) + self.act(hidden)
        # The signals as they are: a policy can trust or distrust them from the first clicks on.
        plain = torch.tanh(signals / 4)
        width = self.config.hidden_dim
        spread = hidden[..., :width] / float(width) ** 0.5  # of norm 1
        features = torch.cat(
            (torch.ones_like(rank).unsqueeze(-1), probability.unsqueeze(-1), spread, plain), dim=-1
        )
        return probability, logits, features

    def forward(
        self,
        items: Tensor,
        history: Tensor,
        history_actions: Tensor,
        history_age_s: Tensor,
        user_entities: Tensor,
        user_entity_weights: Tensor,
        signals: Tensor,
        eligible: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Answer B requests over N items at once, from dense signals: what a release must agree with.

        Parameters
        ----------
        items : (N, dim); signals : (B, S, N); eligible : (B, N) bool; the rest as of `ScoreBatch`

        Returns
        -------
        rows (B, C) int64, valid (B, C) bool, probability (B, C), logits (B, C, n_actions),
        features (B, C, feature_dim); in retrieval order, C at most N
        """
        user, states, known, gains = self.read(
            items[history.clamp(min=0)],
            history >= 0,
            history_actions,
            history_age_s,
            user_entities,
            user_entity_weights,
        )
        base = self.retrieval(user, gains, items, signals)
        n_candidates = min(self.config.n_candidates, len(items))
        top, rows = torch.topk(base.masked_fill(~eligible, NOT_ELIGIBLE), n_candidates, dim=1)
        valid = torch.gather(eligible, 1, rows)
        at = rows.unsqueeze(1).expand(-1, self.config.n_signals, -1)
        given = torch.gather(signals, 2, at).transpose(1, 2)  # (B, C, S)
        judged = self.judge(user, states, known, gains[:, -1:], items[rows], top * valid, given)
        return rows, valid, *judged
