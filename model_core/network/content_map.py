"""The vector of an item that nobody has met, from what it says of itself.

What the networks make of texts and links they have learned by heart, item by item: of an item that they
have not trained on they say nothing better than chance. Their vectors of known items do lie by kind,
though. So ridge regression maps what items say of themselves to those vectors, as
`model_core.signals.cold_start` does for EASE, with the weights that predict left-out items best; and what
is mapped counts as much as it has been seen to help on later events, every item ranked as if it were new.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.network.config import ModelConfig
from model_core.signals.cold_start import EMBEDDINGS, ItemFeatures, Matrix, best_ridge, linear_map, regress
from model_core.signals.ease import DENSE_ITEMS

BLOCK = 4096


class ContentMap(nn.Module):
    """Linear in an item's entities and the directions of its embeddings; nothing until it is `set_to`."""

    def __init__(self, config: ModelConfig, n_entities: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.dim))
        self.mean: Tensor
        self.register_buffer("trust", torch.ones(()))  # how far from the mean a new item is put, from 0 to 1
        self.trust: Tensor
        self.register_buffer("entities", torch.zeros(n_entities + 1, config.dim))
        self.entities: Tensor
        for name in EMBEDDINGS:
            width = getattr(config, f"{name}_dim")
            self.register_buffer(f"{name}_centre", torch.zeros(width))
            self.register_buffer(name, torch.zeros(width, config.dim))

    def forward(
        self, embeddings: dict[str, tuple[Tensor, Tensor]], entities: Tensor, edge_mask: Tensor
    ) -> Tensor:
        """Vectors of n items: (n, dim).

        Parameters
        ----------
        embeddings : by name ("text", ...) (n, d) float32 and whether there is one, (n,) bool
        entities : (n, K) int64, edge_mask : (n, K) bool
        """
        size = edge_mask.sum(1, keepdim=True).clamp(min=1).to(self.mean.dtype).sqrt()
        linked = nn.functional.embedding(entities, self.entities) * edge_mask.unsqueeze(-1)
        about_mean = linked.sum(1) / size
        for name, (values, there) in embeddings.items():
            about = values - self.get_buffer(f"{name}_centre")
            unit = about / about.norm(dim=1, keepdim=True).clamp(min=1e-12) * there.unsqueeze(-1)
            about_mean = about_mean + unit @ self.get_buffer(name)
        vectors: Tensor = self.mean + self.trust * about_mean
        return vectors

    @torch.no_grad()
    def set_to(self, features: ItemFeatures, vectors: Tensor, met: Tensor) -> Tensor:
        """Fit on the vectors of the items met; return what each item would have were it new.

        Of more than `DENSE_ITEMS` items met so many are fitted on, spread evenly.

        Parameters
        ----------
        features : of all n items; vectors : (n, dim) float32; met : (n,) bool

        Returns
        -------
        left_out : (n, dim), fully trusted: of an item fitted on without its own part in that, else as mapped
        """
        rows = torch.nonzero(met.cpu()).squeeze(1).numpy()
        if len(rows) > DENSE_ITEMS:
            rows = rows[np.linspace(0, len(rows) - 1, DENSE_ITEMS).astype(np.int64)]
        known: Matrix = vectors[torch.as_tensor(rows).to(vectors.device)].cpu().numpy()
        mean = known.mean(0) if len(known) else np.zeros(vectors.shape[1], np.float32)
        ridge = best_ridge(known - mean, features, rows)
        solved, left_out = regress(known - mean, features, rows, ridge)
        entities, embeddings = linear_map(features, rows, solved, ridge)
        for name, value in {
            "mean": mean,
            "entities": entities,
            **embeddings,
            **{f"{name}_centre": centre for name, centre in features.centres.items()},
        }.items():
            self.get_buffer(name).copy_(torch.as_tensor(value))
        made: NDArray[np.floating] = np.concatenate(
            [mean + features.kernel(ridge, some, rows) @ solved for some in _blocks(len(met))]
        )
        made[rows] = mean + left_out
        return torch.as_tensor(made.astype(np.float32)).to(vectors.device)


def _blocks(n: int) -> list[NDArray[np.int64]]:
    """Rows of n items, `BLOCK` at a time."""
    return [np.arange(begin, min(begin + BLOCK, n)) for begin in range(0, n, BLOCK)]
