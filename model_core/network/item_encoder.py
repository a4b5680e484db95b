"""An item's vector, fused from what it says, what it is linked to, and who it is."""

import torch
from torch import Tensor, nn

from model_core.network.config import ModelConfig
from model_core.network.content_map import ContentMap
from model_core.network.fusion import Fusion

ID_STD = 0.02
"""Of the ids to begin with: an optimiser moves all weights alike, and an id is moved seldom."""


class ItemEncoder(nn.Module):
    """Text, knowledge-graph neighbours, id and optional image and audio to one vector per item.

    The parts are fused as `config.fusion` says; one that is missing (masked, or id row 0) adds nothing. An
    item that training did not meet gets, once that has ended, the vector of a `ContentMap` instead. The
    neighbours are summed by attention, whose query is what the other parts say: a graph-attention layer over
    padded neighbours (Velickovic et al. 2018), with relations as in Nathani et al. 2019 entering both key and
    value. Projections apply before and after the sum over edges, never to each edge, so the cost is that of
    reading the embeddings.
    """

    def __init__(self, config: ModelConfig, n_items: int, n_entities: int, n_relations: int) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.entities = nn.Embedding(n_entities + 1, dim, padding_idx=0)
        self.relations = nn.Embedding(n_relations + 1, dim, padding_idx=0)
        for table, std in ((self.items, ID_STD), (self.entities, dim**-0.5), (self.relations, dim**-0.5)):
            nn.init.normal_(table.weight, std=std)
            with torch.no_grad():
                table.weight[0].zero_()
        self.text = nn.Linear(config.text_dim, dim)
        self.image = nn.Linear(config.image_dim, dim) if config.image_dim else None
        self.audio = nn.Linear(config.audio_dim, dim) if config.audio_dim else None
        self.query = nn.Linear(dim, dim)  # the key projection is folded into it
        self.value = nn.Linear(dim, dim, bias=False)
        self.names = part_names(config)
        self.fusion = Fusion(config.fusion, dim, self.names)
        # An item begins as the sum of what it is: one with few events is what these few make of its id.
        out = nn.Linear(2 * dim, dim)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.mix = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), out)
        self.norm = nn.LayerNorm(dim)
        self.content = ContentMap(config, n_entities)
        # By id row, whether the fused vector is served: always, until `content` is fitted.
        self.register_buffer("met", torch.ones(n_items + 1, dtype=torch.bool))
        self.met: Tensor

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
        """Encode n items.

        Parameters
        ----------
        id_rows : (n,) int64
        text : (n, T) float32, text_mask : (n,) bool; image and audio alike
        entities, relations : (n, K) int64, edge_mask : (n, K) bool

        Returns
        -------
        vectors : (n, dim) float32
        """
        parts, mask = self.parts(
            id_rows, text, text_mask, entities, relations, edge_mask, image, image_mask, audio, audio_mask
        )
        fused = self.fuse(parts, mask)
        if self.training:
            return fused
        given = {"text": (text, text_mask), "image": (image, image_mask), "audio": (audio, audio_mask)}
        there = {name: (v, m) for name, (v, m) in given.items() if v is not None and m is not None}
        mapped = self.content(there, entities, edge_mask)
        vectors: Tensor = torch.where(self.met[id_rows].unsqueeze(-1), fused, mapped)
        return vectors

    def fuse(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Fuse what `parts` returned, of items met or not: (n, dim)."""
        fused = self.fusion(parts, mask)
        vectors: Tensor = self.norm(fused + self.mix(fused))
        return vectors

    @torch.no_grad()
    def begin_at(self, id_rows: Tensor, vectors: Tensor) -> None:
        """Let the ids of n items, (n,) int64, begin at vectors (n, dim), where these are not zero."""
        told = vectors.any(1)
        self.items.weight[id_rows[told].to(self.items.weight.device)] = vectors[told].to(self.items.weight)

    def parts(
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
    ) -> tuple[Tensor, Tensor]:
        """Project each part: (n, M, dim) in the order of `names`, and which are there: (n, M) bool."""
        parts = [self.items(id_rows), self.text(text) * text_mask.unsqueeze(-1)]
        masks = [id_rows > 0, text_mask]
        for layer, values, there in ((self.image, image, image_mask), (self.audio, audio, audio_mask)):
            if layer is not None and values is not None and there is not None:
                parts.append(layer(values) * there.unsqueeze(-1))
                masks.append(there)
        own = torch.stack(parts).sum(0)
        edges = self.entities(entities) + self.relations(relations)  # (n, K, dim)
        weight = (edges * self.query(own).unsqueeze(1)).sum(-1) / self.config.dim**0.5  # (n, K)
        weight = torch.softmax(weight.masked_fill(~edge_mask, -1e9), dim=-1) * edge_mask
        parts.append(self.value((edges * weight.unsqueeze(-1)).sum(1)))
        masks.append(edge_mask.any(1))
        return torch.stack(parts, 1), torch.stack(masks, 1)


def part_names(config: ModelConfig) -> tuple[str, ...]:
    """Name the parts of an item that a model of these sizes reads, in the order they are stacked."""
    optional = (("image", config.image_dim), ("audio", config.audio_dim))
    return ("id", "text", *(name for name, width in optional if width), "links")
