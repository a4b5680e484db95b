"""Both networks of a release as one torch module, with what training hides from them."""

import torch
from torch import Tensor

from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import item_batch
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.fusion import alignment_loss, modality_dropout
from model_core.network.item_encoder import ItemEncoder, part_names
from model_core.network.ranker import Ranker
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.sample_signals import Log

BLOCK = 8192


class Model(torch.nn.Module):
    """Both networks of a release, and the inputs of all its items, as training needs them."""

    def __init__(
        self, corpus: Corpus, config: ModelConfig, train: TrainConfig, action_weights: tuple[float, ...]
    ) -> None:
        super().__init__()
        names = corpus.vocabulary
        self.encoder = ItemEncoder(
            config, len(names.item_rows), len(names.entity_rows), len(names.relation_rows)
        )
        self.ranker = Ranker(config, self.encoder.entities, action_weights, train.dropout)
        self.id_dropout = train.id_dropout
        self.newcomers = train.newcomers
        self.modality_dropout = train.modality_dropout
        self.neighbours = train.neighbours
        batch = item_batch(corpus)
        self.modalities = tuple(name for name in part_names(config) if name not in ("id", "links"))
        self.inputs = {
            name: torch.as_tensor(getattr(batch, name))
            for part in self.modalities
            for name in (part, f"{part}_mask")
        } | {
            name: torch.as_tensor(getattr(batch, name))
            for name in ("id_rows", "entities", "relations", "edge_mask")
        }

    def draw_newcomers(self) -> Tensor:
        """Draw which items a step takes for new ones, none outside training: (n_items,) bool."""
        n, device = len(self.inputs["id_rows"]), self.ranker.item_bias.device
        return torch.rand(n, device=device) < (self.newcomers if self.training else 0.0)

    def vectors(self, new: Tensor | None = None, items: Tensor | None = None) -> Tensor:
        """Vectors of all items, (n_items, dim), or of some; the ids of `new` are hidden, in training more.

        Parameters
        ----------
        new : (n_items,) bool; items : (k,) int64 rows
        """
        if items is None and not self.training and len(self.inputs["id_rows"]) > BLOCK:
            return torch.cat([self.vectors(new, some) for some in self._blocks()])
        vectors: Tensor = self.encoder(**self._read(new, items))
        return vectors

    def parts(self, new: Tensor | None = None, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Parts of items, which `ItemEncoder.fuse` makes their vectors of in training; see `vectors`."""
        return self.encoder.parts(**self._read(new, items))

    def _read(self, new: Tensor | None, items: Tensor | None) -> dict[str, Tensor]:
        """Inputs of the item encoder for all items, or for some."""
        device = self.ranker.item_bias.device
        at = slice(None) if items is None else items
        inputs = {name: value.to(device)[at] for name, value in self.inputs.items()}
        if new is not None:
            inputs["id_rows"] = inputs["id_rows"] * ~new[at]
        if self.training:
            self._hide(inputs)
        return inputs

    def _blocks(self) -> list[Tensor]:
        """Rows of all items, `BLOCK` at a time: what is read of one on the way is a thousand times larger."""
        device = self.ranker.item_bias.device
        n = len(self.inputs["id_rows"])
        return [torch.arange(at, min(at + BLOCK, n), device=device) for at in range(0, n, BLOCK)]

    @torch.no_grad()
    def settle(self, log: Log, features: ItemFeatures) -> Tensor:
        """End a training on a log: what it did not meet is new, and is placed by what it says of itself.

        The ids of such items are taken back: they were but examples of what was not wanted.

        Parameters
        ----------
        features : of all items

        Returns
        -------
        left_out : (n_items, dim), see `ContentMap.set_to`
        """
        self.eval()
        device = self.ranker.item_bias.device
        met = torch.zeros(log.n_items, dtype=torch.bool, device=device)
        met[torch.as_tensor(log.items).long().to(device)] = True
        encoder, rows = self.encoder, self.inputs["id_rows"].to(device)
        encoder.items.weight[rows[~met]] = 0.0
        encoder.met.zero_()
        encoder.met[rows[met]] = True
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        vectors = torch.cat(
            [
                encoder.fuse(*encoder.parts(**{name: value[some] for name, value in inputs.items()}))
                for some in self._blocks()
            ]
        )
        return encoder.content.set_to(features, vectors, met)

    def alignment(self, items: Tensor) -> Tensor:
        """Loss of some items' parts that are far from the items' id vectors: (n,) int64 rows to ()."""
        device = self.ranker.item_bias.device
        inputs = {name: value.to(device)[items] for name, value in self.inputs.items()}
        parts, mask = self.encoder.parts(**inputs)
        aligned = self.encoder.fusion.aligned(parts, mask)
        return alignment_loss(aligned[:, 1:], mask[:, 1:], parts[:, 0])

    def _hide(self, inputs: dict[str, Tensor]) -> None:
        """Leave out some ids, modalities and edges, so that items that lack them are read as well."""
        device = inputs["id_rows"].device
        shown = torch.rand(len(inputs["id_rows"]), device=device) >= self.id_dropout
        inputs["id_rows"] = inputs["id_rows"] * shown
        drawn = torch.rand(inputs["edge_mask"].shape, device=device) + inputs["edge_mask"]
        drawn = drawn.topk(min(self.neighbours, drawn.shape[1]), dim=1).indices
        for name in ("entities", "relations", "edge_mask"):
            inputs[name] = inputs[name].gather(1, drawn)
        names = [f"{name}_mask" for name in self.modalities]
        there = torch.stack([*(inputs[name] for name in names), inputs["edge_mask"].any(1)], 1)
        *kept, linked = modality_dropout(there, self.modality_dropout).unbind(1)
        inputs |= dict(zip(names, kept, strict=True))
        inputs["edge_mask"] = inputs["edge_mask"] & linked.unsqueeze(1)
