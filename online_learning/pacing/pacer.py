"""Pass rates by which budgets are spent evenly over their day.

An item takes part in a request with a probability, its pass rate, as in Agarwal, Ghosh, Wei & You, "Budget
Pacing for Targeted Online Advertisements at LinkedIn" (KDD 2014): whoever serves draws a coin for each item
and request. They raise or lower the rate by a tenth each minute. Here the rate is what should be spent from
now on, over what would be spent at rate 1, which is estimated from what was spent at the rates of late.

All times are shares of the day.
"""

import numpy as np
from numpy.typing import NDArray

START_RATE = 0.1  # before anything is known of how much an item can spend
MIN_HORIZON, MAX_HORIZON = 1 / 144, 1 / 12  # ten minutes, two hours
COUNTS_IN_HORIZON = 20.0  # units spent within one, where that lies between these
PRIOR_UNITS = 0.2  # spent before anything is known
FALL = 1 / 144  # in which the estimate of what could be spent falls to a third at most: clicks come later

Floats = NDArray[np.float64]


class Pacer:
    """Rates of n budgets, and what is known of how much each could spend.

    Parameters
    ----------
    units : (n,) float64, how many of what is counted each budget pays for a day

    Attributes
    ----------
    rates : (n,) float64 in [0, 1]
    """

    def __init__(self, units: Floats) -> None:
        self.units = units
        self.rates = np.zeros(len(units))
        self._spent = np.zeros(len(units))  # as of the last `pace`
        # Decayed: units spent, and share of the day times rate.
        self._seen, self._offered = np.zeros(len(units)), np.zeros(len(units))
        self._begun = np.maximum(units, 1e-9) / START_RATE
        self._could = self._begun.copy()  # units that would be spent a day at rate 1

    def taken_from(self, before: "Pacer", places: NDArray[np.int64]) -> None:
        """Go on with what another one knows: budget i was its budget places[i], -1 = none."""
        known = np.flatnonzero(places >= 0)
        at = places[known]
        for mine, its in (
            (self.rates, before.rates), (self._spent, before._spent), (self._seen, before._seen),
            (self._offered, before._offered), (self._could, before._could),
        ):  # fmt: skip
            mine[known] = its[at]

    def pace(self, spent: Floats, *, elapsed: float, since: float) -> None:
        """Set the rates by what has been spent.

        Parameters
        ----------
        spent : (n,) float64, units spent of the day so far
        elapsed : share of the day that is over
        since : share of a day since the last call
        """
        units = self.units
        horizon = np.clip(COUNTS_IN_HORIZON / np.maximum(units, 1e-9), MIN_HORIZON, MAX_HORIZON)
        kept = np.exp(-since / horizon)
        new = np.where(spent >= self._spent, spent - self._spent, spent)  # less than before: another day
        self._seen = kept * (self._seen + new)
        self._offered = kept * (self._offered + since * self.rates)
        self._spent = spent.copy()
        estimate = (self._seen + PRIOR_UNITS) / (self._offered + PRIOR_UNITS / self._begun)
        self._could = np.maximum(estimate, self._could * np.exp(-since / FALL))
        left = max(1.0 - elapsed, 1e-6)
        should = units + (units * elapsed - spent) / np.minimum(horizon, left)
        self.rates = np.where(spent < units, np.clip(should / self._could, 0.0, 1.0), 0.0)
