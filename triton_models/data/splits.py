"""Objects over training, validation and test: split by object, so that no 3-D model is on two sides."""

from __future__ import annotations

from collections.abc import Mapping

from triton_models.data.seeds import shuffled

SPLITS = ("train", "val", "test")
TEST_SHARE, VAL_SHARE = 0.3, 0.1


def split_objects(labels: Mapping[str, str], seed: int) -> dict[str, str]:
    """Object -> split, label by label.

    Of n objects of a label about three tenths go to test and one tenth to validation. Two objects go to train and test,
    a single one to train: such a label cannot be evaluated, which the data set's summary shows.

    Args:
        labels: object -> label.
        seed: decides who goes where; an object's side does not depend on objects of other labels.
    """
    members: dict[str, list[str]] = {}
    for name, label in labels.items():
        members.setdefault(label, []).append(name)
    sides: dict[str, str] = {}
    for names in members.values():
        ordered = shuffled(seed, names, "split")
        test = 0 if len(ordered) < 2 else max(1, round(TEST_SHARE * len(ordered)))
        val = 0 if len(ordered) < 4 else max(1, round(VAL_SHARE * len(ordered)))
        for place, name in enumerate(ordered):
            sides[name] = "test" if place < test else "val" if place < test + val else "train"
    return sides
