"""Configuration of a model's networks and of its training; both are written into its release."""

from dataclasses import dataclass

FUSIONS = ("sum", "concat", "gated", "deep", "joint")
MAX_MEMBERS = 16
CO_VISITS = "co-visits"
GRAPH_EMBEDDINGS = ("none", CO_VISITS, "transe", "distmult", "complex", "rotate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes of the networks of a release."""

    dim: int = 64
    """Width of a network's item vectors and of its history transformer."""
    ensemble: int = 1
    """Networks that are trained apart and served as one, by the mean of their scores."""
    heads: int = 2
    layers: int = 2
    history_length: int = 50
    """Most recent interactions the transformer reads."""
    n_neighbours: int = 32
    """Knowledge-graph edges per item."""
    n_affinities: int = 16
    """Entities per user."""
    n_candidates: int = 200
    """Items that retrieval hands to the ranker."""
    feature_dim: int = 32
    """Features per candidate for the policy: 1, the probability, the last hidden layer, the signals."""
    n_signals: int = 3
    """Per-item numbers that the worker computes itself: co-visitation, popularity and EASE."""
    text_dim: int = 384
    image_dim: int = 0
    audio_dim: int = 0
    fusion: str = "sum"
    """How an item's parts become one vector: sum, concat, gated, deep or joint (see `network.fusion`)."""

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads={self.heads}, got {self.dim}")
        if not 1 <= self.ensemble <= MAX_MEMBERS:
            raise ValueError(f"ensemble must be in [1, {MAX_MEMBERS}], got {self.ensemble}")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be in {FUSIONS}, got {self.fusion!r}")
        if self.hidden_dim < 1:
            raise ValueError(f"feature_dim must be at least {3 + self.n_signals}, got {self.feature_dim}")

    @property
    def width(self) -> int:
        """Width of the item vectors of all networks side by side."""
        return self.ensemble * self.dim

    @property
    def hidden_dim(self) -> int:
        """Width of the ranker's last hidden layer."""
        return self.feature_dim - 2 - self.n_signals


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Settings of training: epochs, samples and regularisation."""

    epochs: int = 6
    patience: int = 6
    """Epochs without a lower loss on later interactions after which training ends."""
    seed: int = 0
    batch_windows: int = 16
    """Stretches of user histories per step; each holds up to `history_length` targets."""
    learning_rate: float = 2e-3
    signal_pace: float = 5.0
    """Learning rate of how the signals are weighed, times the others'."""
    weight_decay: float = 0.02
    dropout: float = 0.2
    id_dropout: float = 0.3
    """Share of items whose id is hidden in a step, so that items never seen in training are rankable."""
    newcomers: float = 0.1
    """Share of items that a step takes for new: no id, and no signal but what EASE makes of their kind. So
    DropoutNet (Volkovs, Yu & Poutanen 2017) learns to recommend what nobody has met."""
    new_users: float = 0.1
    """Share of targets before which nothing is known of the user but what they state."""
    modality_dropout: float = 0.1
    """Share of an item's text, image, audio and links that is hidden in a step, never all of them."""
    adversarial: float = 0.0
    """Length of the worst-case step (`model_core.training.adversarial`) that a training step is taken under
    as well, as a share of the length of each of an item's parts; 0 = none. Steps beyond 0.01 cost quality."""
    adversarial_weight: float = 0.5
    """Share that the loss under the worst-case step has in what is minimised."""
    alignment: float = 0.1
    """Weight of the loss that draws an item's parts to its id's vector, where the fusion is joint."""
    horizon: float = 0.3
    """Share of targets that want any later positive item of the user instead of the next one."""
    negatives: int = 256
    """Items that a stretch's targets are told apart from (all items when there are fewer)."""
    whole_catalogue: int = 4096
    """Items up to which a step encodes all of them. Of more it encodes what it reads, and it takes stretches
    of about one length, as many as have the events of `batch_windows` full ones."""
    popular_negatives: float = 0.5
    """Share of the negatives that a larger catalogue has by popularity; the rest are any items alike."""
    most_targets: int = 1_000_000
    """Events that are targets at most: of more, stretches are drawn. All are history, and counted."""
    most_samples: int = 3_000_000
    """Targets in all passes together at most, the last one with the latest events among them: where there are
    many, there are fewer passes than `epochs`."""
    ranked_items: int = 24
    """Of those and the target, the best by the retrieval score, which the ranker learns to put in order."""
    ranked: float = 0.5
    """Share of a step's targets that the ranker sees; it costs most of a step."""
    neighbours: int = 10
    """Knowledge-graph edges of an item that a step sees, drawn at random."""
    other_weight: float = 0.3
    """Weight of a target whose action is not positive; a positive one weighs 1."""
    position_bias: float = 0.0
    """A click at position p of a slate, from 0, stands for (p + 1) ** position_bias clicks: lower ones are
    looked at less often (Joachims, Swaminathan & Schnabel 2017). At serving no position is needed."""
    most_clicks: float = 10.0
    """The most that a click may stand for: beyond, few clicks would decide."""
    warm_up: float = 0.05
    """Share of the interactions, the earliest, that are history but not targets: no signal exists yet."""
    calibration: float = 0.1
    """Share of the interactions, the latest, on which the score's parts are weighed and its probability is
    calibrated."""
    choose_half_life: bool = True
    """Whether the half-life of popularity is chosen by later interactions, where the signals name none."""
    choose_linear: bool = True
    """Whether EASE's penalty and the share of its low pass are chosen by later interactions."""
    graph_embedding: str = "none"
    """Where the tables of items, entities and relations start: at random (none), the items at an embedding of
    what is liked together (co-visits), or all at the embeddings of the knowledge graph by transe, distmult,
    complex or rotate. Many items with few events each are learned best from co-visits."""
    graph_epochs: int = 15
    """At most, of embedding the graph."""
    threads: int = 1
    """A step is many small operations: where cores are shared, a second thread makes them wait."""

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "patience",
            "batch_windows",
            "negatives",
            "whole_catalogue",
            "most_targets",
            "most_samples",
            "ranked_items",
            "neighbours",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "dropout",
            "id_dropout",
            "newcomers",
            "new_users",
            "modality_dropout",
            "horizon",
            "popular_negatives",
            "adversarial_weight",
            "ranked",
            "warm_up",
            "calibration",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0.0 <= self.position_bias <= 4.0:
            raise ValueError(f"position_bias must be in [0, 4], got {self.position_bias}")
        if self.most_clicks < 1.0:
            raise ValueError(f"most_clicks must be at least 1, got {self.most_clicks}")
        if not 0.0 <= self.adversarial <= 1.0:
            raise ValueError(f"adversarial must be in [0, 1], got {self.adversarial}")
        if self.learning_rate <= 0.0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.graph_embedding not in GRAPH_EMBEDDINGS:
            raise ValueError(f"graph_embedding must be in {GRAPH_EMBEDDINGS}, got {self.graph_embedding!r}")

    def passes(self, n_targets: int) -> int:
        """Epochs over so many targets, but for the last."""
        return max(1, min(self.epochs, round(self.most_samples / max(n_targets, 1)) - 1))
