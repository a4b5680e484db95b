"""State that every worker holds of all partitions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_core.signals.co_visitation import CoVisitation
from streams.state.budgets import Budgets
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.likes import Likes
from streams.state.prerequisites import Prerequisites
from streams.state.trial_counts import TrialCounts


@dataclass(frozen=True, slots=True)
class SharedState:
    """The items, and what all users together say of them.

    covisits has the counts of each partition, and likes what its users liked last, where likes are kept at
    all; those of an owned partition are its shard's own. budgets is None where items have none. trials are of
    the slates of this worker.
    """

    index: ItemIndex
    catalogue: Catalogue
    prerequisites: Prerequisites
    budgets: Budgets | None = None
    covisits: dict[int, CoVisitation] = field(default_factory=dict)
    likes: dict[int, Likes] = field(default_factory=dict)
    trials: TrialCounts = field(default_factory=TrialCounts)

    @property
    def parts(self) -> Sequence[CoVisitation]:
        """The counts of all partitions."""
        return list(self.covisits.values())

    def title(self, item_id: str) -> str | None:
        """Title of an item; None if nobody has described it, or it was deleted."""
        row = self.index.row_of(item_id)
        return self.catalogue.title(row) if self.catalogue.exists(row) else None
