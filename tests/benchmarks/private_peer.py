"""dp-accounting on the noise of a private release: run by `quality_private.py` with its environment's Python.

`python private_peer.py DELTA SIGMA...`: prints the epsilon of Gaussian mechanisms of these deviations
for a sensitivity of 1 each, composed.
"""

import sys

from dp_accounting import GaussianDpEvent
from dp_accounting.pld import PLDAccountant


def main() -> None:
    delta, *sigmas = map(float, sys.argv[1:])
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for sigma in sigmas:
        accountant.compose(GaussianDpEvent(sigma))
    print(accountant.get_epsilon(delta))


if __name__ == "__main__":
    main()
