"""Several networks that are served as one."""

from dataclasses import replace

import pytest
import torch

from model_core.data.vocabulary import Vocabulary
from model_core.network.config import ModelConfig
from model_core.network.ensemble import EnsembleEncoder, EnsembleRanker
from model_core.network.item_encoder import ItemEncoder
from model_core.network.ranker import Ranker
from model_core.release.export import example_items, example_requests
from model_core.release.served import dense_inputs
from model_core.training.warm_start import Start, of_member
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, Texts


def member(seed: int) -> tuple[ItemEncoder, Ranker]:
    """Networks whose every part says something."""
    torch.manual_seed(seed)
    config = replace(CONFIG, text_dim=Texts.dim)
    encoder = ItemEncoder(config, N_ITEMS, 20, 3)
    ranker = Ranker(config, encoder.entities, tuple(WEIGHTS.values()), 0.0)
    scale = ranker.signal_scale.clone()
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *ranker.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
        ranker.signal_scale.copy_(scale)  # of which an ensemble takes the mean, before the logarithm
    return encoder.eval(), ranker.eval()


def test_an_ensemble_scores_an_item_by_the_mean_of_its_members() -> None:
    members = [member(seed) for seed in range(3)]
    encoder = EnsembleEncoder([one for one, _ in members]).eval()
    ranker = EnsembleRanker([one for _, one in members]).eval()
    items, asked = example_items(encoder, 50), dense_inputs(example_requests(members[0][1], 20, 7, 50))

    def logits(of: ItemEncoder, by: Ranker) -> torch.Tensor:
        """Of every item that a user may be given: (7, 50), else 0."""
        rows, valid, probability = by(of(**items), **asked)[:3]
        return torch.zeros(7, 50).scatter(1, rows, torch.logit(probability) * valid)

    with torch.inference_mode():
        mean = torch.stack([logits(*one) for one in members]).mean(0)
        assert mean.std() > 0.1
        torch.testing.assert_close(logits(encoder, ranker), mean, atol=1e-4, rtol=1e-4)


def test_each_member_goes_on_from_its_own_weights_else_from_the_first_ones() -> None:
    first, second = torch.zeros(1), torch.ones(1)
    start = Start("v", {"ranker.begin": first, "1.ranker.begin": second}, Vocabulary({}, {}, {}), 0)
    begins = [of_member(start, number).weights["ranker.begin"] for number in range(3)]
    assert begins == [first, second, first]


def test_an_ensemble_has_members() -> None:
    with pytest.raises(ValueError, match=r"ensemble must be in \[1, 16\], got 0"):
        ModelConfig(ensemble=0)
