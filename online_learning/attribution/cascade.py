"""The cascade model: a slate is read from the top, and what stands below the last item taken was not seen.

Craswell, Zoeter, Taylor & Ramsey, "An experimental comparison of click position-bias models", WSDM 2008. A
bandit that learns from such a slate counts as looked at the positions down to the last response, and all of
them where there is none (Kveton, Szepesvari, Wen & Ashkan, "Cascading bandits", ICML 2015; Zong, Ni, Sung,
Ke, Wen & Kveton, "Cascading bandits for large-scale recommendation problems", UAI 2016, for linear models).
With several responses the last one ends the reading, as in the dependent click model (Guo, Liu & Wang,
"Efficient multiple-click models in web search", WSDM 2009).

A slate counts as looked at in full when it is served; each response then amends that.
"""

from collections.abc import Iterable


def looked_at(taken: Iterable[int], n: int) -> int:
    """Return how many of n positions were looked at, given those that were responded to."""
    return max(taken, default=n - 1) + 1


def amended(before: Iterable[int], position: int, n: int) -> tuple[range, float]:
    """Return the positions whose impressions a response amends, and the weight that each gains.

    Parameters
    ----------
    before : positions responded to before
    position : of the response
    n : positions of the slate
    """
    earlier = list(before)
    was, now = looked_at(earlier, n), looked_at([*earlier, position], n)
    return (range(now, was), -1.0) if now < was else (range(was, now), 1.0)
