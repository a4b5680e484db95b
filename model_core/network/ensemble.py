"""Several models that are served as one: the mean of what they say of an item.

A deep ensemble (Lakshminarayanan, Pritzel & Blundell 2017): members learn from the same samples and differ
in where they begin and in what training hides from them. Their vectors lie side by side, so a product of two
such vectors is the sum of the members' products, and retrieval sees one model with wider vectors. The scale
of a signal is that of the members' mean parameter; how much each part of the score counts is fitted for all
together (`model_core.training.balance`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from model_core.network.item_encoder import ItemEncoder
from model_core.network.model import Model
from model_core.network.ranker import Ranker


def side_by_side(wide: Tensor, n: int) -> tuple[Tensor, ...]:
    """Return the n parts of the last axis, which are as wide as each other."""
    return torch.split(wide, wide.shape[-1] // n, -1)


class EnsembleEncoder(ItemEncoder):
    """Item encoders side by side."""

    def __init__(self, members: Sequence[ItemEncoder]) -> None:
        nn.Module.__init__(self)
        first = members[0]
        self.members = nn.ModuleList(members)
        self.config = replace(first.config, ensemble=len(members))
        self.items, self.entities, self.relations = first.items, first.entities, first.relations

    def forward(
        self,
        id_rows: Tensor,
        text: Tensor,
        text_mask: Tensor,
        entities: Tensor,
        relations: Tensor,
        edge_mask: Tensor,
        image: Tensor | None = None,
        image_mask: Tensor | None = None,
        audio: Tensor | None = None,
        audio_mask: Tensor | None = None,
    ) -> Tensor:
        """Encode n items: (n, width); see `ItemEncoder.forward`."""
        given = (id_rows, text, text_mask, entities, relations, edge_mask)
        also = (image, image_mask, audio, audio_mask)
        return torch.cat([member(*given, *also) for member in self.members], dim=-1)


class EnsembleRanker(Ranker):
    """Rankers whose users, states and hidden layers lie side by side; scores are their means.

    Features for the policy are those of the first member.
    """

    def __init__(self, members: Sequence[Ranker]) -> None:
        nn.Module.__init__(self)
        first = members[0]
        self.rankers: list[Ranker] = list(members)
        self.members = nn.ModuleList(members)
        self.config = replace(first.config, ensemble=len(members))
        self.item_bias, self.action_own = first.item_bias, first.action_own
        self.newcomer = _Mean([member.newcomer for member in members])  # type: ignore[assignment]
        self.rank = _Mean([member.rank for member in members])  # type: ignore[assignment]
        self.act = _Mean([member.act for member in members])  # type: ignore[assignment]
        # What is fitted for all is kept in the first one, whose weights are saved.
        for name in ("gains_here", "gains_away", "lowered", "platt"):
            self.register_buffer(name, getattr(first, name))

    @property
    def signal_scale(self) -> Tensor:  # type: ignore[override]
        """Mean of the members'."""
        return torch.stack([member.signal_scale for member in self.rankers]).mean(0)

    def states(self, tokens: Tensor, actions: Tensor, gap_s: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Ranker.states`: each member reads its own part of the items."""
        read = [member.states(own, actions, gap_s, mask) for member, own in self._own(tokens)]
        return torch.cat([states for states, _ in read], -1), read[0][1]

    def user_vector(self, state: Tensor, idle_s: Tensor, idle_known: Tensor, liked: Tensor) -> Tensor:
        """See `Ranker.user_vector`."""
        own = zip(self._own(state), self._parts(liked), strict=True)
        return torch.cat([of.user_vector(last, idle_s, idle_known, one) for (of, last), one in own], -1)

    def liked(self, entities: Tensor, weights: Tensor) -> Tensor:
        """See `Ranker.liked`."""
        return torch.cat([member.liked(entities, weights) for member in self.rankers], -1)

    def signal_weights(self, user: Tensor) -> Tensor:
        """See `Ranker.signal_weights`: the members' mean."""
        return torch.stack([member.signal_weights(own) for member, own in self._own(user)]).mean(0)

    def match(self, user: Tensor) -> Tensor:
        """Vector whose inner product with an item's is the mean of the members' products."""
        return torch.cat([member.match(own) for member, own in self._own(user)], -1) / len(self.rankers)

    def hidden(self, user: Tensor, vectors: Tensor, states: Tensor, allowed: Tensor) -> Tensor:
        """See `Ranker.hidden`."""
        asked = zip(self._own(user), self._parts(vectors), self._parts(states), strict=True)
        return torch.cat([of.hidden(own, some, read, allowed) for (of, own), some, read in asked], -1)

    def _parts(self, wide: Tensor) -> tuple[Tensor, ...]:
        return side_by_side(wide, len(self.rankers))

    def _own(self, wide: Tensor) -> Iterable[tuple[Ranker, Tensor]]:
        """Give each member with its part of what lies side by side."""
        return zip(self.rankers, self._parts(wide), strict=True)


class Ensemble(nn.Module):
    """Models side by side."""

    def __init__(self, members: Sequence[Model]) -> None:
        super().__init__()
        self.models: list[Model] = list(members)
        self.members = nn.ModuleList(members)
        self.encoder = EnsembleEncoder([member.encoder for member in members])
        self.ranker = EnsembleRanker([member.ranker for member in members])

    def vectors(self) -> Tensor:
        """Vectors of all items: (n_items, width)."""
        return torch.cat([member.vectors() for member in self.models], dim=-1)


def served_as_one(models: Sequence[Model]) -> Model | Ensemble:
    """Return the only model, or the ensemble of several."""
    return models[0] if len(models) == 1 else Ensemble(models)


class _Mean(nn.Module):
    """Mean of what layers make of the parts that lie side by side."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, wide: Tensor) -> Tensor:
        made = zip(self.layers, side_by_side(wide, len(self.layers)), strict=True)
        return torch.stack([layer(own) for layer, own in made]).mean(0)
