"""Opens a data set of either format by its path.

A file is COCO labels, and the split is the file. A folder with <split>/annotations.json (as `dotstream data prepare`
makes it) or <split>.json holds COCO labels too, one with ImageSets/ is a Pascal VOC set.
"""

from __future__ import annotations

from pathlib import Path

from dotstream.errors import Misconfigured
from triton_models.detectors.coco import read_coco
from triton_models.detectors.dataset import DetectionData, Progress, checked
from triton_models.detectors.labels import LabelMap
from triton_models.detectors.voc import read_voc


def open_data(
    path: Path,
    split: str,
    *,
    pictures: Path | None = None,
    labels: LabelMap | None = None,
    progress: Progress = lambda _: None,
) -> DetectionData:
    """Reads a data set and checks every picture of it.

    Args:
        path: file or folder, see above.
        split: of a folder.
        pictures: folder of a COCO file's pictures, if it is another than the file's.
        labels: the classes to use; None takes the set's own.
        progress: told when a large set takes long.

    Raises:
        Misconfigured: there is no such set or split, it cannot be read, or nothing of it can be used.
    """
    if path.is_file():
        data = read_coco(path, pictures=pictures, labels=labels)
    elif coco := next((file for file in _coco_files(path, split) if file.is_file()), None):
        data = read_coco(coco, pictures=pictures, labels=labels)
    elif (path / "ImageSets").is_dir():
        data = read_voc(path, split, labels=labels)
    else:
        raise Misconfigured(
            f"no detection data at {path}: a COCO file, a folder with {split}/annotations.json or {split}.json, or "
            "a Pascal VOC folder"
        )
    return checked(data, progress)


def _coco_files(folder: Path, split: str) -> tuple[Path, ...]:
    return folder / split / "annotations.json", folder / f"{split}.json"
