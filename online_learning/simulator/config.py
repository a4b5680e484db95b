"""Settings of simulated users; every effect has a value that switches it off."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Settings of the behaviour of simulated users.

    Attributes
    ----------
    slate : positions of a slate
    candidates : items to choose a slate from
    pool : items that a user's candidates are drawn from: the best half as far as is known, others at random
    sessions : how often a user comes by; satiation goes on from one session to the next
    max_slates : slates after which a session ends whatever the user thinks of it
    position_bias : position p is looked at with probability (p + 1) ** -position_bias; 0: always
    satiation : share of an item's appeal that is gone when the user has had enough of its groups; 0: none
    satiation_gain : how fast that happens, per item looked at
    recovery : share of satiation lost from slate to slate
    rest : share of satiation lost from session to session
    leave : probability of leaving after a slate, whatever was in it
    boredom : probability of leaving because of a slate of which the user has had enough; 0: none
    impatience : probability of leaving for each slate without a click since the last click; 0: none
    drift : standard deviation of what a slate's time does to a taste, in deviations of tastes; 0: none
    cold_users, cold_items : share of users and items of which the recommender does not know the taste
    bots : share of users that click at random and are never tired; their clicks are worth nothing
    bot_clicks : probability that a bot clicks what it looks at
    """

    slate: int = 4
    candidates: int = 30
    pool: int = 100
    sessions: int = 1
    max_slates: int = 40
    position_bias: float = 0.5
    satiation: float = 0.5
    satiation_gain: float = 0.3
    recovery: float = 0.2
    rest: float = 0.5
    leave: float = 0.02
    boredom: float = 0.8
    impatience: float = 0.1
    drift: float = 0.0
    cold_users: float = 0.0
    cold_items: float = 0.0
    bots: float = 0.0
    bot_clicks: float = 0.3

    def __post_init__(self) -> None:
        for name in ("slate", "candidates", "pool", "sessions", "max_slates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.slate <= self.candidates <= self.pool:
            raise ValueError(
                "slate, candidates and pool must not fall in this order, "
                f"got {self.slate}, {self.candidates}, {self.pool}"
            )
        shares = (
            "satiation", "recovery", "rest", "leave", "boredom", "impatience", "cold_users", "cold_items",
            "bots", "bot_clicks",
        )  # fmt: skip
        for name in shares:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("position_bias", "satiation_gain", "drift"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
