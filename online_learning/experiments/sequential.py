"""Always-valid confidence in a difference of means: it holds at every look, however often one looks.

The intervals are an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 2024, theorem
2.2): with probability 1 - alpha the truth lies inside all of them at once, up to an error that vanishes as
the first look comes later. Whoever stops when 0 falls outside has a false alarm with probability alpha at
most; with an interval for one look that probability grows towards 1 with the number of looks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant's mean less the control's, at one look or, as arrays, at many.

    Attributes
    ----------
    estimate : the difference
    low, high : bounds of the always-valid interval
    p_value : always valid: the least alpha at which 0 would lie outside
    """

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_value: NDArray[np.float64]


def difference_of_means(
    control: tuple[Any, Any, Any], variant: tuple[Any, Any, Any], steps: Any, *, alpha: float, plan: float
) -> Difference:
    """Compare what users of two variants have earned so far.

    The unit is the user, to whom the variant was dealt. A user's total may go on growing between looks: as
    long as those who have earned more do not earn less from then on, the looks are more alike than those of
    new users would be, and the boundary is crossed less often (Slepian's inequality), not more.

    Parameters
    ----------
    control, variant : (users, sum of their totals, sum of the squares of their totals), numbers or arrays
        with one entry a look
    steps : slates behind both variants together, growing from look to look: the sequence's time
    alpha : probability that the truth is ever outside
    plan : steps at which the interval is to be tightest; to be named before the first look
    """
    (mean_0, square_0), (mean_1, square_1) = _moments(*control), _moments(*variant)
    return _difference(mean_1 - mean_0, np.sqrt(square_0 + square_1), steps, alpha=alpha, plan=plan)


def difference_of_ratios(
    control: tuple[NDArray[np.float64], NDArray[np.float64]],
    variant: tuple[NDArray[np.float64], NDArray[np.float64]],
    steps: float,
    *,
    alpha: float,
    plan: float,
) -> Difference:
    """Compare what a slate has earned so far with two variants, where users have had any number of slates.

    Users, or groups of users made by chance, are what is independent. The ratio of two of their totals is
    about normal, with the error of the delta method (Deng, Knoblich & Lu, "Applying the delta method in
    metric analytics", KDD 2018, section 3.1).

    Parameters
    ----------
    control, variant : what each group has earned, and its slates: (groups,) float64 both
    steps, alpha, plan : see `difference_of_means`
    """
    (ratio_0, square_0), (ratio_1, square_1) = _ratio(*control), _ratio(*variant)
    estimate, error = np.float64(ratio_1 - ratio_0), np.sqrt(square_0 + square_1)
    return _difference(estimate, error, steps, alpha=alpha, plan=plan)


def _difference(estimate: Any, error: Any, steps: Any, *, alpha: float, plan: float) -> Difference:
    check_level(alpha, plan)
    time = _time(steps, alpha, plan)
    half = error * np.sqrt(2.0 * (time + 1.0) / time * np.log(np.sqrt(time + 1.0) / alpha))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(error > 0.0, estimate / error, 0.0)
    p_value = np.minimum(1.0, np.sqrt(time + 1.0) * np.exp(-0.5 * z**2 * time / (time + 1.0)))
    return Difference(estimate, estimate - half, estimate + half, p_value)


def check_level(alpha: float, plan: float) -> None:
    """Raise ValueError unless `alpha` is a probability that an interval can have and `plan` a time."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be above 0 and below 1, got {alpha}")
    if not 1.0 <= plan < np.inf:
        raise ValueError(f"plan must be finite and at least 1, got {plan}")


def _time(steps: Any, alpha: float, plan: float) -> NDArray[np.float64]:
    # t sigma^2 rho^2, with the rho of section 2.5 that makes the width at `plan` least; free of sigma.
    best = -2.0 * np.log(alpha) + np.log(1.0 - 2.0 * np.log(alpha))
    scaled: NDArray[np.float64] = best * np.asarray(steps, np.float64) / plan
    return scaled


def _ratio(earned: NDArray[np.float64], slates: NDArray[np.float64]) -> tuple[float, float]:
    """Earned a slate and its squared standard error; of fewer than 2 groups the error is infinite."""
    n, total = int(np.count_nonzero(slates)), float(slates.sum())
    ratio = float(earned.sum()) / max(total, 1.0)
    if n < 2:
        return ratio, np.inf
    residuals = np.square(earned - ratio * slates).sum()
    return ratio, float(n / (n - 1) * residuals / total**2)


def _moments(users: Any, total: Any, squares: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and its squared standard error; of fewer than 2 users the error is infinite."""
    n = np.asarray(users, np.float64)
    mean = np.asarray(total, np.float64) / np.maximum(n, 1.0)
    spread = np.maximum(np.asarray(squares, np.float64) - n * mean**2, 0.0) / np.maximum(n - 1.0, 1.0)
    return mean, np.where(n >= 2.0, spread / np.maximum(n, 1.0), np.inf)
