"""An item's vector, fused from what it says, what it is linked to, and who it is."""

import torch
from torch import Tensor, nn

from model_core.config import ModelConfig


class ItemEncoder(nn.Module):
    """Text, knowledge-graph neighbours, id and optional image and audio to one vector per item.

    Every part that is missing (masked, or id row 0) simply adds nothing, so a new item is placed by the
    parts it has. The neighbours are summed by attention, whose query is what the other parts say:
    a graph-attention layer over padded neighbours (Velickovic et al. 2018), with relations as in
    Nathani et al. 2019 entering both key and value. Projections apply before and after the sum over edges,
    never to each edge, so the cost is that of reading the embeddings.
    """

    def __init__(self, config: ModelConfig, n_items: int, n_entities: int, n_relations: int) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.entities = nn.Embedding(n_entities + 1, dim, padding_idx=0)
        self.relations = nn.Embedding(n_relations + 1, dim, padding_idx=0)
        for table in (self.items, self.entities, self.relations):
            nn.init.normal_(table.weight, std=dim**-0.5)
            with torch.no_grad():
                table.weight[0].zero_()
        self.text = nn.Linear(config.text_dim, dim)
        self.image = nn.Linear(config.image_dim, dim) if config.image_dim else None
        self.audio = nn.Linear(config.audio_dim, dim) if config.audio_dim else None
        self.query = nn.Linear(dim, dim)  # the key projection is folded into it
        self.value = nn.Linear(dim, dim, bias=False)
        self.mix = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.norm = nn.LayerNorm(dim)

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
        own = self.text(text) * text_mask.unsqueeze(-1) + self.items(id_rows)
        if self.image is not None and image is not None and image_mask is not None:
            own = own + self.image(image) * image_mask.unsqueeze(-1)
        if self.audio is not None and audio is not None and audio_mask is not None:
            own = own + self.audio(audio) * audio_mask.unsqueeze(-1)
        edges = self.entities(entities) + self.relations(relations)  # (n, K, dim)
        weight = (edges * self.query(own).unsqueeze(1)).sum(-1) / self.config.dim**0.5  # (n, K)
        weight = torch.softmax(weight.masked_fill(~edge_mask, -1e9), dim=-1) * edge_mask
        linked = self.value((edges * weight.unsqueeze(-1)).sum(1))
        fused = own + linked
        vectors: Tensor = self.norm(fused + self.mix(fused))
        return vectors
