"""Makes the reader of users: as the release's training read them, else by the settings."""

from model_core.release.folder import Release
from model_core.signals.config import SignalConfig
from streams.settings import Settings
from streams.state.rings import CHUNK

OF_RELEASE = {
    "affinity_half_life_ms": "affinity_half_life_ms", "covisit_neighbours": "neighbours",
    "influence_per_hour": "influence_per_hour", "surge_bound": "surge_bound",
}  # fmt: skip
"""Settings, and what a release calls them, that count where there is no release."""


def signals_of(settings: Settings) -> SignalConfig:
    """Return how users are read without a release."""
    own = {name: getattr(settings, setting) for setting, name in OF_RELEASE.items()}
    depth = kept_for_sure(settings.history_limit)
    own |= {"depth": depth, "window": min(SignalConfig().window, depth)}
    return signals_asked(SignalConfig(**own), settings)


def signals_asked(signals: SignalConfig, settings: Settings) -> SignalConfig:
    """Return signals with co-visits in order, where the settings want that and the signals say nothing."""
    return signals.ordered() if settings.covisits_in_order else signals


def kept_for_sure(history_limit: int) -> int:
    """Events of a user that are kept at any moment: the oldest go 16 at a time, when another one comes."""
    return history_limit - (CHUNK - 1)


def check_settings(settings: Settings, release: Release) -> None:
    """Refuse settings that contradict a release; those that were left alone follow it.

    Raises
    ------
    ValueError
        Naming the setting.
    """
    for setting, name in (OF_RELEASE | {"covisits_in_order": "in_order"}).items():
        wanted, got = getattr(release.signals, name), getattr(settings, setting)
        if setting in settings.model_fields_set and got != wanted:
            raise ValueError(f"{setting} must be {wanted}, as in training, or left out, got {got}")
    depth = release.signals.depth
    if (kept := kept_for_sure(settings.history_limit)) < depth:
        least = depth + CHUNK - 1
        raise ValueError(
            f"history_limit must be at least {least + -least % CHUNK}, for users are read {depth} events "
            f"deep, got {settings.history_limit}, which keeps {kept} for sure"
        )
    if release.actions and not set(release.actions) & set(settings.actions):
        trained, got = ", ".join(release.actions), ", ".join(settings.actions)
        raise ValueError(f"actions must have one of the release's, {trained}, got {got}")
    for action, weight in release.action_weights.items():
        if action in settings.actions and (settings.actions[action] >= 1) != (weight >= 1):
            raise ValueError(
                f"actions must have {action!r} {'of at least' if weight >= 1 else 'below'} 1, as in training "
                f"({weight}), got {settings.actions[action]}"
            )
