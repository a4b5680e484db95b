"""Errors that a caller acts on."""

import errno
import re

EXIT_CODES = {
    0: "done",
    1: "done, but look at it: rows were rejected, a check failed, something is not ready",
    2: "not possible as asked: an option, a setting, a file, a topic",
    3: "nobody answers: the Kafka cluster, or a worker",
    130: "interrupted by Ctrl-C",
}
"""What a command's exit code says."""


class SlatestreamError(Exception):
    """Base of the errors that end a command with a message instead of a traceback.

    Attributes
    ----------
    exit_code : int
        Of the command; see `EXIT_CODES`.
    """

    exit_code = 2


class UnreachableError(SlatestreamError):
    """A cluster or a worker does not answer; the message says where, and what to do."""

    exit_code = 3


class ConfigurationError(SlatestreamError):
    """A setting is missing or breaks its rule; the message names it, its value and the rule."""


class BrokerError(SlatestreamError):
    """A broker cannot be started, or does not do what is asked of it; the message says what to do."""


class TopicError(SlatestreamError):
    """A topic is missing or differs from what is wanted."""


class ClusterError(TopicError):
    """No broker takes a connection."""

    exit_code = 3


class BrokersUnreachable(ClusterError):
    """No broker is at any of the addresses: they may not have started yet."""


class OwnershipLost(Exception):
    """Another worker answers for the partition now: what is held of it here counts no more."""


class Fenced(OwnershipLost):
    """Brokers refuse what this worker writes to a partition, as another one is its writer, or they fail."""


_NO_MEMORY = re.compile(
    "can.?t allocate memory|cannot allocate memory|not enough memory|failed to map|out of memory|alloc_failed"
)
_GPU = re.compile("cuda|cublas|cudnn|gpu")


def is_memory_fault(error: BaseException) -> bool:
    """Tell whether no memory is left, as Python, NumPy, PyTorch or the loader of libraries says it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return (
        isinstance(error, (RuntimeError, ImportError)) and _NO_MEMORY.search(str(error).lower()) is not None
    )


def what_helps(error: BaseException) -> str:
    """Say whose memory is at its end, of which `is_memory_fault` speaks, and what helps."""
    if isinstance(error, RuntimeError) and _GPU.search(str(error).lower()):
        return "the GPU has no memory left: lower batch_windows in [train] of a recipe, or add --device cpu"
    return "no memory is left: give it more, or less to do at once"
