"""From picture bytes that nobody vouches for to upright RGB pixels: the one edge where decoders are called.

On a pin's way this stands between its fetched bytes and the models. Every limit is checked on the file's structure
(jpeg.py, png.py, webp.py) before a decoder sees a byte, and a decoder sees only what it needs. Colour profiles are
ignored: samples are taken as sRGB, as the models were trained. Transparency is laid over white.

Reasons of the `Poison` that `decode` raises:

    picture_empty            no bytes
    picture_too_large        more bytes than `PictureLimits.max_bytes`
    picture_format           not JPEG, PNG or WebP by its first bytes, whatever it is called; or a JPEG that is
                             lossless, hierarchical, arithmetic-coded, not of 8 bits, or not of 1, 3, 4 components
    picture_truncated        the file ends before its structure does
    picture_corrupt          the file breaks its format's rules, or its decoder refuses or warns of damage
    picture_side             a side shorter or longer than allowed, zero included
    picture_too_many_pixels  more pixels than `PictureLimits.max_pixels`
    picture_scans            a JPEG of more scans, or more scans times pixels, than allowed
    picture_animated         a WebP or PNG with frames (a GIF is picture_format)
    picture_bomb             few bytes, much work: metadata that unfolds, floods of segments, chunks or restart markers
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from dotstream.errors import Misconfigured, Poison, Retryable
from triton_models import jpeg, png, webp
from triton_models.outline import Outline, corrupt
from triton_models.pixels import Pixels, crop_resize, resize, salient_colours, upright

__all__ = ["Picture", "PictureLimits", "Pixels", "crop_resize", "decode", "inspect", "resize", "salient_colours"]

BAND_ROWS = 256
"""Rows converted at once, so that no whole second picture is held beside the result."""
PILLOW_PIXEL_LIMIT = 89_478_485
"""Above this Pillow warns of a decompression bomb by itself."""
HARMLESS_JPEG_WARNING = re.compile(r"Invalid SOS parameters|Unknown Adobe color transform|unknown JFIF revision")
"""What some cameras write without any effect on the pixels; libjpeg decodes it as every viewer does."""
OTHER_FORMATS = (
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"%PDF", "PDF"),
    (b"\0\0\1\0", "ICO"),
    (b"BM", "BMP"),
    (b"PK\3\4", "ZIP"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
    (b"<!DOCTYPE", "HTML"),
    (b"<html", "HTML"),
)


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a picture may be before it is decoded.

    Decoding at the default limits holds at most about 360 MB for a JPEG or PNG and 650 MB for a WebP for a moment.
    `max_scan_pixels` bounds the work of a progressive JPEG: 25 scans at 40 megapixels, 80 at 12.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    min_side: int = 8
    max_side: int = 16_384
    max_scans: int = 100
    max_scan_pixels: int = 1_000_000_000

    def __post_init__(self) -> None:
        if not 0 < self.max_pixels <= PILLOW_PIXEL_LIMIT:
            raise Misconfigured(f"max_pixels must be 1..{PILLOW_PIXEL_LIMIT}, not {self.max_pixels}")


DEFAULT_LIMITS = PictureLimits()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 [height, width, 3], upright RGB, contiguous, read-only.
        sha256: of the bytes it was decoded from, 32 bytes.
        format: "jpeg", "png" or "webp".
    """

    pixels: Pixels
    width: int
    height: int
    sha256: bytes
    format: str


def decode(data: bytes, limits: PictureLimits = DEFAULT_LIMITS) -> Picture:
    """Decodes one picture, applying its Exif orientation. Thread-safe.

    Raises:
        Poison: the picture must not or cannot be decoded; the reasons are listed above.
        Retryable: this machine has no memory for a picture that is within the limits.
    """
    outline = inspect(data, limits)
    try:
        pixels = _DECODERS[outline.format](outline)
    except Poison:
        raise
    except MemoryError as error:
        raise Retryable(f"no memory to decode {outline.width}x{outline.height} pixels") from error
    except Exception as error:  # whatever else a decoder raises says that the bytes are damaged
        raise corrupt(f"{outline.format}: {type(error).__name__}: {error}") from error
    if pixels.shape != (outline.height, outline.width, 3):
        raise corrupt(f"header says {outline.width}x{outline.height}, decoded to {pixels.shape}")
    pixels = upright(pixels, outline.orientation)
    pixels.flags.writeable = False
    height, width = pixels.shape[:2]
    return Picture(pixels, width, height, hashlib.sha256(data).digest(), outline.format)


def inspect(data: bytes, limits: PictureLimits = DEFAULT_LIMITS) -> Outline:
    """Reads a picture's structure and holds it against the limits, without decoding.

    Raises:
        Poison: as `decode`, as far as it shows in the structure.
    """
    if not data:
        raise Poison("picture_empty", "no bytes")
    if len(data) > limits.max_bytes:
        raise Poison("picture_too_large", f"{len(data)} bytes; at most {limits.max_bytes}")
    if data.startswith(jpeg.MAGIC):
        outline = jpeg.outline(data, limits.max_scans)
    elif data.startswith(png.MAGIC):
        outline = png.outline(data)
    elif webp.is_webp(data):
        outline = webp.outline(data)
    else:
        raise Poison("picture_format", f"{_guess(data)}; JPEG, PNG and WebP are taken")
    _check_size(outline, limits)
    return outline


def _guess(data: bytes) -> str:
    """What the bytes look like, for the person who reads the dead letter."""
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if data[4:8] == b"ftyp":
        return f"looks like {data[8:12].decode('latin-1')!r} (HEIC, AVIF or video)"
    for magic, name in OTHER_FORMATS:
        if head[: len(magic)].lower() == magic.lower():
            return f"looks like {name}"
    return f"unknown format beginning with {data[:8].hex()}"


def _check_size(outline: Outline, limits: PictureLimits) -> None:
    width, height = outline.width, outline.height
    if not (limits.min_side <= min(width, height) and max(width, height) <= limits.max_side):
        raise Poison("picture_side", f"{width}x{height}; sides of {limits.min_side}..{limits.max_side} are taken")
    if width * height > limits.max_pixels:
        raise Poison("picture_too_many_pixels", f"{width}x{height}; at most {limits.max_pixels} pixels")
    if outline.scans * width * height > limits.max_scan_pixels:
        raise Poison("picture_scans", f"{outline.scans} scans of {width}x{height} pixels")
    blocks = -(-width // 8) * -(-height // 8)
    if outline.restarts > outline.scans * blocks:
        raise Poison("picture_bomb", f"{outline.restarts} restart markers for {blocks} blocks")


def _decode_jpeg(outline: Outline) -> Pixels:
    """By simplejpeg, whose pixels are bit for bit Pillow's; what it cannot lay out goes to Pillow."""
    space = "CMYK" if outline.channels == 4 else "RGB"
    try:
        samples: Pixels = simplejpeg.decode_jpeg(outline.body, space, strict=True)
    except ValueError as error:
        if "subsampling level" in str(error):
            return _rgb(JpegImagePlugin.JpegImageFile(io.BytesIO(outline.body)))
        if not HARMLESS_JPEG_WARNING.search(str(error)):
            raise
        samples = simplejpeg.decode_jpeg(outline.body, space, strict=False)
    if space == "RGB":
        return samples
    np.subtract(255, samples, out=samples)  # Adobe's convention, which all writers follow: 255 is no ink
    return _rgb(Image.frombuffer("CMYK", (outline.width, outline.height), samples, "raw", "CMYK", 0, 1))


def _decode_png(outline: Outline) -> Pixels:
    """Pillow leaves rows that the data do not reach black, without a word: a black last row is looked into."""
    image = PngImagePlugin.PngImageFile(io.BytesIO(outline.body))
    image.load()
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    if (image.info.get("interlace") or not np.asarray(last_row).any()) and not png.has_all_rows(outline.body):
        raise corrupt("PNG picture data end before the last row")
    return _rgb(image)


def _decode_webp(outline: Outline) -> Pixels:
    return _rgb(WebPImagePlugin.WebPImageFile(io.BytesIO(outline.body)))


_DECODERS: dict[str, Callable[[Outline], Pixels]] = {"jpeg": _decode_jpeg, "png": _decode_png, "webp": _decode_webp}


def _rgb(image: Image.Image) -> Pixels:
    """Any mode that the three formats have, as RGB over white."""
    with image:
        image.load()
        width, height = image.size
        pixels = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, BAND_ROWS):
            bottom = min(top + BAND_ROWS, height)
            pixels[top:bottom] = _rgb_band(image.crop((0, top, width, bottom)))
        return pixels


def _rgb_band(band: Image.Image) -> Pixels:
    key = band.info.get("transparency")
    if band.mode.startswith("I"):
        values = np.asarray(band)
        grey = (values >> 8).astype(np.uint8)
        if key is not None:
            grey[values == key] = 255
        return np.broadcast_to(grey[..., None], (*grey.shape, 3))
    if key is None and not band.has_transparency_data:
        return np.asarray(band.convert("RGB"))
    colours = band.convert("RGBA")
    white = Image.new("RGB", band.size, (255, 255, 255))
    white.paste(colours, mask=colours.getchannel("A"))
    return np.asarray(white)
