"""Panels of a dashboard, and the PromQL that many of them share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Query = tuple[str, str]  # PromQL, legend


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes
    ----------
    about : what it tells, for the reader who points at its title
    unit : Grafana's name of it
    shows : lines over time, the latest numbers, or the names of what is there now
    levels : value from which on a colour holds, lowest first; only numbers show them
    """

    title: str
    about: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    shows: Literal["lines", "numbers", "names"] = "lines"
    levels: Sequence[tuple[float | None, str]] = ((None, "green"),)


def rate(metric: str, by: str, where: str = "") -> str:
    """PromQL of a counter's rate, summed by some labels."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "le", where: str = "") -> str:
    """PromQL of a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', by, where)})"


def quantiles(histogram: str, where: str, *shares: float) -> list[Query]:
    """Queries for some quantiles of a histogram."""
    return [(quantile(share, histogram, where=where), f"p{100 * share:g}") for share in shares]


def mean(histogram: str, by: str, where: str = "") -> str:
    """PromQL of the mean of a histogram."""
    return f"{rate(f'{histogram}_sum', by, where)} / {rate(f'{histogram}_count', by, where)}"


def ratio(part: str, whole: str, by: str) -> str:
    """PromQL of one counter's share of another."""
    return f"{rate(part, by)} / {rate(whole, by)}"


def of_stage(stage: str) -> str:
    """Matcher of one stage of `slatestream_stage_seconds`."""
    return f'stage="{stage}"'


STAGES = "slatestream_stage_seconds"
