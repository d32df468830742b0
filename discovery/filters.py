"""What narrows a search down: annotations, category, label, buyable, and the presets Similar Looks and Shop-the-Look.

Category, label and buyable are asked of the index itself, by its columns; annotations and Similar Looks are looked at
in the records of what was found, so that a narrow filter searches more candidates (discovery/candidates.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from discovery.ports import Hit
from indexer.records import top_category

Preset = Literal["similar_looks", "shop_the_look"]


@dataclass(frozen=True, slots=True)
class Group:
    """Labels and site categories that belong together, such as fashion.

    Attributes:
        labels: of objects, as the detector names them.
        categories: of pins.
    """

    labels: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()

    def holds(self, hit: Hit) -> bool:
        """Whether an object is of these labels; of a whole picture, whether its pin's top category is of these."""
        if hit.object_index is None:
            return top_category(hit.record) in self.categories
        return any(item.index == hit.object_index and item.label in self.labels for item in hit.record.objects)


FASHION = Group(
    labels=frozenset({"Footwear", "Boot", "High heels", "Clothing", "Dress", "Handbag", "Hat", "Sunglasses", "Watch"}),
    categories=frozenset({"fashion", "womens_fashion", "mens_fashion"}),
)
"""What Similar Looks searches unless it is set otherwise (section 7 of the paper: fashion only)."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a result must be.

    Attributes:
        annotations: the pin carries all of these, as they are written.
        category: the pin's top category.
        label: of the object; leaves whole pictures out.
        buyable: whether the pin can be bought.
        within: only what this group holds; None for everything.
        curated: experts' products come first (Shop-the-Look).
    """

    annotations: frozenset[str] = frozenset()
    category: str | None = None
    label: str | None = None
    buyable: bool | None = None
    within: Group | None = field(default=None)
    curated: bool = False

    def passes(self, hit: Hit) -> bool:
        """What the index does not look at itself."""
        if self.annotations and not self.annotations.issubset(hit.record.annotations):
            return False
        return self.within is None or self.within.holds(hit)

    @property
    def looks_at_records(self) -> bool:
        """Whether `passes` may refuse anything."""
        return bool(self.annotations) or self.within is not None


def filters_of(
    preset: Preset | None,
    *,
    annotations: frozenset[str] = frozenset(),
    category: str | None = None,
    label: str | None = None,
    buyable: bool | None = None,
    fashion: Group = FASHION,
) -> Filters:
    """The filters that a request asks for; a preset adds its own to them."""
    shopping = preset == "shop_the_look"
    return Filters(
        annotations=annotations,
        category=category,
        label=label,
        buyable=True if shopping else buyable,
        within=fashion if preset == "similar_looks" else None,
        curated=shopping,
    )
