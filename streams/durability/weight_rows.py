"""The weights of signals that a worker has learned, as rows of `policy-state`."""

from model_core.signals.trends import N_SIGNALS
from model_core.signals.weighing import Weigher, Weights
from streams.state.rows import SCHEMA_VERSION, Row, SignalWeights, decode, encode, joined, weights_key


def weights_row(weigher: Weigher, partition: int) -> Row:
    """Return the learned weights of signals as the row that is saved with a partition."""
    now, offset = weigher.weights, weigher.learned(partition)
    columns = (now.values.astype("<f8").tobytes(), now.squares.astype("<f8").tobytes())
    row = SignalWeights(SCHEMA_VERSION, offset, now.events, now.level, now.wins, now.losses, *columns)
    return weights_key(partition), encode(row)


def take_over_weights(weigher: Weigher, partition: int, key: bytes, value: bytes) -> None:
    """Go on with what a row says; one that is of other signals says nothing."""
    row = decode(SignalWeights, "policy-state", key, value)
    if len(row.values) == len(row.squares) == 8 * N_SIGNALS:
        weights = Weights(
            values=joined([row.values], "<f8"),
            squares=joined([row.squares], "<f8"),
            level=row.level,
            events=row.events,
            wins=row.wins,
            losses=row.losses,
        )
        weigher.take_over(partition, weights, row.offset)
