"""Metrics of the releases that a worker serves."""

from collections.abc import Mapping

from streams.metrics.registry import Registered
from streams.metrics.tables import CANARY_OUTCOMES, SHADOW_OUTCOMES


class Releases(Registered):
    """The release in use, the one that is refused, and the canary."""

    def __init__(self) -> None:
        super().__init__()
        self._release = self.gauge("release_info", "1 for the release in use.", ("version", "provider"))
        self._release_written = self.gauge(
            "release_timestamp_seconds", "Unix time at which the release in use was written.", ("version",)
        )
        self.release_swaps = self.counter(
            "release_swaps", "Times that another release began to serve without a restart."
        )
        self.releases_refused = self.counter(
            "releases_refused", "Releases that should serve and could not; another one goes on serving."
        )
        self.releases_delayed = self.counter(
            "releases_delayed",
            "Times that a release which is to serve could not be fetched or loaded yet; it is tried again.",
        )
        self._refused = self.gauge(
            "release_refused_info", "1 for the release that is to serve and is refused.", ("version",)
        )
        self.shadowed = self.counter(
            "release_shadowed",
            "Live requests chosen for the shadow release, by outcome.",
            ("outcome",),
        )
        for outcome in SHADOW_OUTCOMES:
            self.shadowed.labels(outcome)
        self.canaries = self.counter(
            "release_canaries",
            "Canaries that this worker has decided on, by outcome.",
            ("outcome",),
        )
        for outcome in CANARY_OUTCOMES:
            self.canaries.labels(outcome)
        self._compared = self.gauge(
            "release_canary_comparison",
            "Slates of the canary and of the live release, what one has earned of either, and the canary's "
            "lead with its always-valid interval; on the worker that decides.",
            ("figure",),
        )
        self._canary = self.gauge(
            "release_canary_share", "Share of the users whom a canary serves on this worker.", ("version",)
        )

    def set_release(self, version: str, provider: str, *, written_s: float | None = None) -> None:
        """Name the release and the ONNX Runtime provider in use; the former one disappears.

        Parameters
        ----------
        written_s : Unix time at which it was written, None when there is no release
        """
        self._release.clear()
        self._release.labels(version, provider).set(1)
        self._release_written.clear()
        if written_s is not None:
            self._release_written.labels(version).set(written_s)

    def set_refused(self, version: str | None) -> None:
        """Name the release that is to serve and is refused; None for none."""
        self._refused.clear()
        if version is not None:
            self._refused.labels(version).set(1)

    def set_canary(self, version: str | None, share: float = 0.0) -> None:
        """Name the release that serves a share of the users beside the one in use; None for none."""
        self._canary.clear()
        if version is not None:
            self._canary.labels(version).set(share)

    def set_comparison(self, figures: Mapping[str, float] | None) -> None:
        """Say what the slates of the canary have shown; None where none is compared here."""
        self._compared.clear()
        for name, value in (figures or {}).items():
            self._compared.labels(name).set(value)
