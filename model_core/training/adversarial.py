"""The step that hurts a model most: what its items say of themselves is moved against its loss.

He et al. 2018, "Adversarial personalized ranking for recommendation", equation 7, for items' id vectors; Tang
et al. 2019, "Adversarial training towards robust multimedia recommender system", for what their texts, images
and sounds become. Here a step is a share of the length of what it moves: so a model cannot escape it by
longer vectors.
"""

from torch import Tensor


def worst_step(parts: Tensor, gradient: Tensor, size: float) -> Tensor:
    """Return what is to be added to the parts of items; nothing where a part is missing or does not matter.

    Parameters
    ----------
    parts : (n, M, dim), see `model_core.network.item_encoder.ItemEncoder.parts`
    gradient : (n, M, dim), of a loss
    size : length of the step as a share of a part's own
    """
    length = parts.detach().norm(dim=-1, keepdim=True)
    steepest = gradient.norm(dim=-1, keepdim=True)
    step: Tensor = size * length * gradient / steepest.clamp(min=1e-30)
    return step.detach()
