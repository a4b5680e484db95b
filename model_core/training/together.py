"""Training by several processes, on one machine or on many: data parallelism, as `torchrun` starts it.

Every process reads the same data and holds the same weights. Of each step a process takes its part of the
stretches; what they say is added up, so a step is that of one process with all of them but for what each
draws at random. What is chosen by measuring is chosen by the first process, which leads, and told to all.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: while the first one measures, they have nothing to do."""
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Together:
    """The processes that train one release, seen from one of them.

    Parameters
    ----------
    rank : this one's number, from 0; size : how many there are
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process chooses, measures and writes."""
        return self.rank == 0

    def part(self, whole: Iterable[T]) -> Iterator[T]:
        """Give this process's part of things; the parts of all are `whole`."""
        return islice(whole, self.rank, None, self.size)

    def told(self, value: Callable[[], Any]) -> Any:
        """Return what the first process computes, in all of them: tensors and plain values."""
        if self.size == 1:
            return value()
        packed = io.BytesIO()
        if self.leads:
            torch.save(value(), packed)
        size = torch.tensor([len(packed.getbuffer())])
        dist.broadcast(size, 0)
        sent = torch.empty(int(size), dtype=torch.uint8)
        if self.leads:
            sent = torch.frombuffer(packed.getbuffer(), dtype=torch.uint8)
        dist.broadcast(sent, 0)
        # As tensors and plain values only: nothing that is sent can do more than be refused.
        return torch.load(io.BytesIO(sent.numpy().tobytes()), map_location="cpu", weights_only=True)

    def match(self, model: nn.Module) -> None:
        """Give a model the weights that it has in the first process."""
        if self.size > 1:
            model.load_state_dict(self.told(model.state_dict))

    def add_up(self, *numbers: float) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.size > 1:
            sums = torch.tensor(numbers, dtype=torch.float64)
            dist.all_reduce(sums)
            return [float(one) for one in sums]
        return list(numbers)

    def average(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        """Make the gradients of all processes their mean, in which this one's count `weight`.

        A parameter that had no gradient anywhere has none afterwards.
        """
        if self.size == 1:
            return
        moved = list(parameters)
        had = [float(one.grad is not None) for one in moved]
        grads = [torch.zeros_like(one) if one.grad is None else one.grad * weight for one in moved]
        told = torch.tensor([weight, *had], device=moved[0].device)
        sums = torch.cat([told, *(grad.flatten() for grad in grads)])
        dist.all_reduce(sums)
        told, sums = sums[: len(told)], sums[len(told) :] / sums[0]
        parts = torch.split(sums, [one.numel() for one in moved])
        for one, part, anywhere in zip(moved, parts, told[1:].tolist(), strict=True):
            one.grad = part.view_as(one) if anywhere else None


ALONE = Together()


@contextmanager
def joined(device: str = "auto") -> Iterator[Together]:
    """Join the processes that `torchrun` has started, for as long as the block; alone without it.

    Raises
    ------
    ValueError
        The processes do not find each other.
    """
    told = os.environ.get("WORLD_SIZE", "1")
    if not told.isdecimal():
        raise ValueError(f"WORLD_SIZE must be a number of processes, as torchrun sets it, got {told!r}")
    size = int(told)
    if size <= 1:
        yield ALONE
        return
    if os.environ.get("MASTER_ADDR", "") in LOCAL:
        os.environ.setdefault(
            "GLOO_SOCKET_IFNAME", "lo"
        )  # else it listens where the machine's name points to
    backend = "gloo"
    if device in ("auto", "cuda") and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the {size} processes of WORLD_SIZE do not find each other: {error}. Start them with "
            "torchrun, or unset WORLD_SIZE to train in one process"
        ) from error
    try:
        yield Together(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
