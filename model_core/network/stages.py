"""The ranker as it is served, in two graphs with retrieval between them.

What is said of a whole catalogue is no network: an inner product and a few numbers of each item, which
`model_core.release.retrieval` adds up without an array for every request, signal and item.
"""

import torch
from torch import Tensor, nn

from model_core.network.ranker import Ranker


class UserStage(nn.Module):
    """Reads the users of B requests, and says what they ask of an item."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        history_actions: Tensor,
        history_age_s: Tensor,
        user_entities: Tensor,
        user_entity_weights: Tensor,
    ) -> tuple[Tensor, ...]:
        """Read users; see `Ranker.read` for the arguments.

        Returns
        -------
        user (B, dim), states (B, 1 + L, dim), known (B, 1 + L) bool
        match (B, dim), weights (B, S) of the signals' logarithms, scales (B, S) added to signals before
        newcomer (B, 1), gains (B, 2) of the match and the head
        """
        ranker = self.ranker
        user, states, known, gains = ranker.read(
            tokens, mask, history_actions, history_age_s, user_entities, user_entity_weights
        )
        weights = ranker.signal_weights(user) * gains[:, :-2]
        # A row a user, though they are alike: a graph's output must come from its inputs.
        scales = torch.exp(ranker.signal_scale - 3.0) * torch.ones_like(user[:, :1])
        return user, states, known, ranker.match(user), weights, scales, ranker.newcomer(user), gains[:, -2:]


class CandidateStage(nn.Module):
    """Ranks the candidates that retrieval has brought."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(
        self,
        user: Tensor,
        states: Tensor,
        known: Tensor,
        head_gain: Tensor,
        vectors: Tensor,
        retrieved: Tensor,
        signals: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Ranker.judge`."""
        return self.ranker.judge(user, states, known, head_gain, vectors, retrieved, signals)
