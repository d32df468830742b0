"""Looks at query pictures as the stream looks at pins: the same decoder, crop, resize and models.

Only so are the codes of a crop comparable with those in the index: a box drawn exactly over a detected object gives
the object's stored code again (up to the rounding of its corners).
"""

from __future__ import annotations

from discovery.ports import Box, Sight
from triton_models.pictures import DEFAULT_LIMITS, Picture, PictureLimits, crop_resize, decode
from triton_models.pipeline import Models, Vision, VisionSettings, widened


class TritonEyes:
    """`Eyes` over the models that Triton serves. Thread-safe when the models are.

    Args:
        models: the active generation's detector and embedder (triton_models/client.py).
        settings: the generation's own; another crop margin would give codes of another space.
        limits: for uploaded pictures.
    """

    def __init__(self, models: Models, settings: VisionSettings, limits: PictureLimits = DEFAULT_LIMITS) -> None:
        self._models = models
        self._settings = settings
        self._limits = limits
        self._vision = Vision(models, settings)

    def open(self, picture: bytes) -> Picture:
        """Decodes in safety.

        Raises:
            Poison: `picture_*`, it cannot be decoded.
        """
        return decode(picture, self._limits)

    def see(self, picture: Picture) -> Sight:
        """What is in a picture.

        Raises:
            Retryable: Triton is away or slow.
        """
        seen = self._vision.see([picture])[0]
        return Sight(code=seen.code, objects=seen.objects, sha256=picture.sha256, colours=seen.colours)

    def look(self, picture: Picture, box: Box) -> bytes:
        """The code of what lies in a box. Raises as `see`."""
        crop = crop_resize(picture.pixels, widened(box, self._settings.crop_margin), self._settings.embedder_size)
        code: bytes = self._models.embed(crop[None])[0].tobytes()
        return code
