"""The poison corpus: pictures that must be refused, each with its reason, and odd but good ones that must pass.

Everything is generated, the same on each run with the same encoders. `samples()` builds it once for a process.
"""

from __future__ import annotations

import io
import random
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import simplejpeg
from PIL import Image, ImageCms

from tests.poison import build
from tests.poison.build import HEIGHT, WIDTH, chunk, encode, jpeg, photo, segment


@dataclass(frozen=True, slots=True)
class Sample:
    """A file. `reason` None: a good picture, `width` x `height` once upright; `like`: its pixels resemble `photo()`."""

    name: str
    data: bytes
    reason: str | None
    width: int = WIDTH
    height: int = HEIGHT
    like: bool = True


@cache
def samples() -> tuple[Sample, ...]:
    found = [*_foreign(), *_truncated(), *_corrupt_jpegs(), *_corrupt_others(), *_too_much(), *_bombs()]
    found += [*_animated(), *_good_jpegs(), *_good_pngs(), *_good_webps()]
    assert len({sample.name for sample in found}) == len(found)
    return tuple(found)


def _named(reason: str | None, files: dict[str, bytes]) -> Iterator[Sample]:
    for name, data in files.items():
        yield Sample(name, data, reason)


def _zip_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("picture.jpg"), data)
    return file.getvalue()


def _foreign() -> Iterator[Sample]:
    gif = io.BytesIO()
    frames = [Image.new("P", (16, 16), n % 250) for n in range(1000)]
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    grey_jpeg = encode(Image.fromarray(photo()).convert("L"))
    two = build.patch_frame(grey_jpeg, components=2)
    at = two.index(b"\xff\xc0")
    yield from _named("picture_empty", {"empty": b""})
    yield from _named(
        "picture_format",
        {
            "one byte": b"\xff",
            "html.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
            "svg.jpg": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
            "xml.jpg": b'\xef\xbb\xbf<?xml version="1.0"?><svg/>',
            "tiff.jpg": encode(photo(), "TIFF"),
            "psd.jpg": b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x40\0\0\0\x40\0\x08\0\3" + bytes(64),
            "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n",
            "pdf.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
            "ico.jpg": encode(Image.fromarray(photo(32, 32)), "ICO"),
            "bmp.jpg": encode(photo(), "BMP"),
            "gif.jpg": encode(Image.fromarray(photo()).quantize(16), "GIF"),
            "animated.gif": gif.getvalue(),
            "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
            "avif.jpg": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64),
            "mp4.jpg": b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(64),
            "jp2.jpg": encode(photo(), "JPEG2000"),
            "jxl.jpg": b"\xff\x0a" + bytes(64),
            "wave.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(32),
            "zip first.jpg": _zip_of(jpeg()),
            "line feed before the picture.jpg": b"\n" + jpeg(),
            "random.jpg": random.Random(5).randbytes(4096),
            "elf.png": b"\x7fELF" + bytes(64),
            "text-mode transfer.png": encode(photo(), "PNG").replace(b"\r\n", b"\n", 1),
            "12 bits.jpg": build.patch_frame(jpeg(), precision=12),
            "lossless.jpg": build.patch_frame(jpeg(), marker=0xC3),
            "arithmetic.jpg": build.patch_frame(jpeg(), marker=0xC9),
            "hierarchical.jpg": build.insert(jpeg(), segment(0xDE, bytes(15))),
            "two components.jpg": two[: at + 2] + b"\0\x0e" + two[at + 4 : at + 13] + b"\2\x11\0" + two[at + 13 :],
        },
    )


def _truncated() -> Iterator[Sample]:
    still, progressive, picture, webp = jpeg(), jpeg(progressive=True), encode(photo(), "PNG"), encode(photo(), "WEBP")
    described = build.insert(still, segment(0xE1, b"Exif\0\0" + build.exif(6)))
    yield from _named(
        "picture_truncated",
        {
            "magic only.jpg": still[:3],
            "header only.jpg": still[:200],
            "half.jpg": still[: len(still) // 2],
            "half progressive.jpg": progressive[: len(progressive) // 2],
            "no end marker.jpg": still[:-2],
            "half an end marker.jpg": still[:-1],
            "within Exif.jpg": described[:20],
            "ends in fill.jpg": still[:-2] + b"\xff" * 50,
            "magic only.png": picture[:8],
            "half.png": picture[: len(picture) // 2],
            "no IEND.png": picture[:-12],
            "within IEND.png": picture[:-3],
            "chunk of 2 GB.png": picture[:33] + b"\x7f\xff\xff\xffIDAT" + picture[41:],
            "header only.webp": webp[:12],
            "half.webp": webp[: len(webp) // 2],
            "one byte short.webp": webp[:-1],
        },
    )


def _corrupt_jpegs() -> Iterator[Sample]:
    still = jpeg()
    parts = list(build.segments(still))
    frame = next(part for code, part in parts if code == 0xC0)
    scan = parts[-1][1]
    flipped = bytearray(still)
    for at in range(still.index(b"\xff\xda") + 40, len(still) - 2, 97):
        flipped[at] ^= 0x15
    yield from _named(
        "picture_corrupt",
        {
            "ended within its scan.jpg": still[: len(still) // 2] + b"\xff\xd9",
            "bits flipped.jpg": bytes(flipped),
            "no quantisation tables.jpg": build.without(still, 0xDB),
            "no Huffman tables.jpg": build.without(still, 0xC4),
            "no frame.jpg": build.without(still, 0xC0),
            "no scan.jpg": build.without(still, 0xDA),
            "nothing.jpg": b"\xff\xd8\xff\xd9",
            "two frames.jpg": build.insert(still, frame),
            "two start markers.jpg": b"\xff\xd8" + still,
            "scan first.jpg": build.insert(still, scan),
            "wrong table number.jpg": build.join([p.replace(b"\xff\xdb\0C\0", b"\xff\xdb\0C\2") for _, p in parts]),
            "Huffman counts overflow.jpg": build.insert(still, segment(0xC4, b"\0" + b"\xff" * 16 + bytes(200))),
            "unknown marker.jpg": build.insert(still, segment(0x42, b"boo")),
            "bytes between segments.jpg": build.insert(still, segment(0xFE, b"hi"), b"\0\1\2\3"),
            "segment of length 0.jpg": build.insert(still, b"\xff\xfe\0\0"),
            "short frame header.jpg": still.replace(frame, segment(0xC0, b"\x08\0\x40\0\x60\3")),
            "five components.jpg": build.patch_frame(still, components=5),
        },
    )


def _corrupt_others() -> Iterator[Sample]:
    picture = encode(photo(), "PNG")
    head, data, end = picture[8:33], picture[33:-12], build.IEND
    interlaced = build.interlaced(photo()[..., 0])
    bad_sum = bytearray(picture)
    bad_sum[60] ^= 1
    few = chunk(b"IDAT", zlib.compress(build.rows(photo()[:20])))
    flipped = bytearray(build.webp_frame(encode(photo(), "WEBP"))[1])
    flipped[3:6] = b"\0\0\0"
    lossless = encode(photo(), "WEBP", lossless=True)
    kind, payload = build.webp_frame(lossless)
    magic = build.PNG_MAGIC
    yield from _named(
        "picture_corrupt",
        {
            "bad checksum.png": bytes(bad_sum),
            "no zlib stream.png": magic + head + chunk(b"IDAT", b"this is not deflate" * 40) + end,
            "20 of 64 rows.png": magic + head + few + end,
            "half of the passes.png": interlaced[:33] + chunk(b"IDAT", zlib.compress(bytes(3000))) + end,
            "no picture data.png": magic + head + end,
            "no palette.png": magic + build.header(16, 16, 8, 3) + chunk(b"IDAT", zlib.compress(bytes(272))) + end,
            "two palettes.png": build.with_chunks(picture, chunk(b"PLTE", bytes(3)), chunk(b"PLTE", bytes(3))),
            "palette of 4 bytes.png": build.with_chunks(picture, chunk(b"PLTE", bytes(4))),
            "two headers.png": build.with_chunks(picture, head),
            "header second.png": magic + chunk(b"tEXt", b"a\0b") + head + data + end,
            "depth 3.png": magic + build.header(WIDTH, HEIGHT, 3, 2) + data + end,
            "unknown critical chunk.png": build.with_chunks(picture, chunk(b"CgBI", bytes(4))),
            "data in two places.png": magic + head + data + chunk(b"tEXt", b"a\0b") + data + end,
            "chunk named by bytes.png": build.with_chunks(picture, chunk(b"\0\1\2\3", b"")),
            "two still pictures.webp": build.riff((kind, payload), (kind, payload)),
            "canvas and picture differ.webp": build.riff(build.canvas(64, 96), (kind, payload)),
            "no picture.webp": build.riff(build.canvas(64, 96)),
            "no key frame.webp": build.riff((b"VP8 ", bytes(flipped))),
            "no lossless signature.webp": build.riff((kind, b"\0" + payload[1:])),
            "bitstream cut.webp": build.riff((kind, payload[: len(payload) // 2])),
            "chunk beyond its block.webp": lossless[:16] + b"\xff\xff\0\0" + lossless[20:],
        },
    )


def _huge_png() -> bytes:
    """13,000 x 13,000 grey pixels in about 160 KB."""
    packer = zlib.compressobj(6)
    row_block = bytes(13_001 * 100)
    packed = b"".join(packer.compress(row_block) for _ in range(130)) + packer.flush()
    return build.PNG_MAGIC + build.header(13_000, 13_000, 8, 0) + chunk(b"IDAT", packed) + build.IEND


def _too_much() -> Iterator[Sample]:
    still = jpeg()
    lossy = bytearray(build.webp_frame(encode(photo(), "WEBP"))[1])
    lossy[6:10] = b"\xff\x3f\xff\x3f"
    yield Sample("20 MB and a byte.jpg", still + bytes(20_000_001 - len(still)), "picture_too_large")
    yield from _named(
        "picture_side",
        {
            "1x1.png": encode(photo(1, 1), "PNG"),
            "1x1.jpg": encode(photo(1, 1)),
            "1x1.webp": encode(photo(1, 1), "WEBP"),
            "7x100.jpg": encode(photo(7, 100)),
            "65535x1.jpg": build.patch_frame(still, width=65535, height=1),
            "65500x65500.jpg": build.patch_frame(still, width=65500, height=65500),
            "16385x8.png": encode(Image.new("L", (16385, 8)), "PNG"),
            "no width.jpg": build.patch_frame(still, width=0),
            "no height.jpg": build.patch_frame(still, height=0),
            "no width.png": build.PNG_MAGIC
            + build.header(0, 8, 8, 0)
            + chunk(b"IDAT", zlib.compress(b""))
            + build.IEND,
            "2^31 high.png": build.PNG_MAGIC + build.header(8, 1 << 31, 8, 0) + chunk(b"IDAT", b"") + build.IEND,
        },
    )
    yield from _named(
        "picture_too_many_pixels",
        {
            "169 megapixels.png": _huge_png(),
            "16384x16384.jpg": build.patch_frame(still, width=16384, height=16384),
            "16383x16383.webp": build.riff((b"VP8 ", bytes(lossy))),
            "16383x16383 canvas.webp": build.riff((b"VP8X", bytes(4) + build.u24(16382) * 2), (b"VP8 ", bytes(lossy))),
        },
    )
    yield from _named(
        "picture_scans",
        {
            "2010 scans.jpg": build.storm_of_scans(2010),
            "101 scans.jpg": build.storm_of_scans(101),
            "60 scans of 36 megapixels.jpg": build.storm_of_scans(60, 6000, 6000),
        },
    )


def _bombs() -> Iterator[Sample]:
    picture, still, webp = encode(photo(), "PNG"), jpeg(), encode(photo(), "WEBP")
    big = zlib.compress(bytes(100_000_000), 9)
    small = zlib.compress(bytes(1_000_000), 9)
    frame_at = next(part for code, part in build.segments(still) if code == 0xDA)
    idat = picture[41:-16]
    crumbs = b"".join(chunk(b"IDAT", b"") for _ in range(70_000))
    storm = frame_at + b"".join(bytes([0xFF, 0xD0 + n % 8]) for n in range(500_000))
    yield from _named(
        "picture_bomb",
        {
            "compressed text.png": build.with_chunks(picture, chunk(b"zTXt", b"k\0\0" + big)),
            "international text.png": build.with_chunks(picture, chunk(b"iTXt", b"k\0\1\0en\0k\0" + big)),
            "colour profile.png": build.with_chunks(picture, chunk(b"iCCP", b"icc\0\0" + big)),
            "many texts.png": build.with_chunks(picture, *[chunk(b"zTXt", b"k\0\0" + small)] * 9),
            "70,000 texts.png": build.with_chunks(picture, chunk(b"tEXt", b"k\0v") * 70_000),
            "70,000 crumbs of data.png": build.PNG_MAGIC + picture[8:33] + crumbs + chunk(b"IDAT", idat) + build.IEND,
            "100,000 comments.jpg": build.insert(still, segment(0xFE, b"hi") * 100_000),
            "100,000 tables.jpg": build.insert(still, segment(0xDB, b"\0" + b"\1" * 64) * 30_000),
            "restart storm.jpg": build.insert(still.replace(frame_at, storm), segment(0xDD, b"\0\1")),
            "restarts nobody announced.jpg": still.replace(frame_at, storm),
            "restarts between segments.jpg": build.insert(still, b"\xff\xd0" * 100_000),
            "5,000 chunks.webp": build.riff(build.webp_frame(webp), *[(b"JUNK", b"")] * 5_000),
        },
    )


def _animated() -> Iterator[Sample]:
    yield from _named(
        "picture_animated",
        {
            "3,000 frames.png": build.animated_png(3_000),
            "two frames.png": build.animated_png(2),
            "no frames.png": build.animated_png(2).replace(b"acTL\0\0\0\2", b"acTL\0\0\0\0"),
            "3,000 frames.webp": build.animated_webp(3_000),
            "one frame.webp": build.animated_webp(1),
            "frames without the flag.webp": build.animated_webp(2).replace(b"VP8X\x0a\0\0\0\2", b"VP8X\x0a\0\0\0\0"),
        },
    )


def _turned(orientation: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """`photo()` stored such that this orientation turns it upright again."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(photo())
    return np.asarray(image.transpose(undo[orientation]) if orientation in undo else image)


def _good_jpegs() -> Iterator[Sample]:
    image, still = Image.fromarray(photo()), jpeg()
    cmyk = np.ascontiguousarray(255 - np.asarray(image.convert("CMYK")))
    thumbnail = segment(0xE1, b"Exif\0\0" + build.exif(1) + encode(photo(32, 24)))
    mpo = io.BytesIO()
    image.save(mpo, "MPO", save_all=True, append_images=[Image.fromarray(photo(48, 32))])
    scan = still.index(b"\xff\xda")
    tables = [part for code, part in build.segments(still) if code in (0xDB, 0xC4)]
    odd_sos = bytearray(still)
    odd_sos[scan + 2 + odd_sos[scan + 3] - 2] = 0
    files = {
        "4:4:4.jpg": jpeg(subsampling=0),
        "4:2:2.jpg": jpeg(subsampling=1),
        "4:2:0.jpg": jpeg(subsampling=2),
        "4:4:0.jpg": simplejpeg.encode_jpeg(photo(), colorsubsampling="440"),
        "4:1:1.jpg": simplejpeg.encode_jpeg(photo(), colorsubsampling="411"),
        "progressive.jpg": jpeg(progressive=True),
        "restart after each block.jpg": jpeg(restart_marker_blocks=1),
        "RGB without transform.jpg": jpeg(keep_rgb=True),
        "CMYK.jpg": encode(image.convert("CMYK"), quality=95),
        "YCCK.jpg": simplejpeg.encode_jpeg(cmyk, quality=95, colorspace="CMYK"),
        "second image.jpg": mpo.getvalue(),
        "trailer.jpg": still + random.Random(6).randbytes(5000),
        "another JPEG behind.jpg": still + encode(photo(48, 32)),
        "zip behind.jpg": still + _zip_of(b"boo"),
        "thumbnail within Exif.jpg": build.insert(still, thumbnail),
        "end marker in a comment.jpg": build.insert(still, segment(0xFE, b"\xff\xd9\xff\xda\xff\xd8")),
        "tables twice.jpg": build.insert(still, *tables),
        "fill bytes.jpg": still[:2] + b"\xff" * 1_000_000 + still[2:],
        "broken Exif.jpg": build.insert(still, segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")),
        "orientation 9.jpg": build.insert(still, segment(0xE1, b"Exif\0\0" + build.exif(9))),
        "odd SOS parameters.jpg": bytes(odd_sos),
        "little-endian Exif.jpg": build.insert(still, segment(0xE1, b"Exif\0\0" + build.exif(1, "<"))),
    }
    yield from _named(None, files)
    for orientation in range(1, 9):
        stored = encode(_turned(orientation), quality=90)
        data = build.insert(stored, segment(0xE1, b"Exif\0\0" + build.exif(orientation)))
        yield Sample(f"orientation {orientation}.jpg", data, None)
    yield Sample("8x8.jpg", encode(photo(8, 8)), None, 8, 8, like=False)
    yield Sample("grey.jpg", encode(image.convert("L"), quality=90), None, like=False)


def _good_pngs() -> Iterator[Sample]:
    pixels = photo()
    image = Image.fromarray(pixels)
    picture = encode(pixels, "PNG")
    wide = pixels.astype(np.uint16) * 257
    opaque = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)
    grey = np.asarray(image.convert("L"))
    palette = image.quantize(200)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = build.with_chunks(encode(_turned(6), "PNG"), chunk(b"eXIf", build.exif(6)))
    yield from _named(
        None,
        {
            "RGB.png": picture,
            "16-bit RGB.png": build.png(wide, 16, 2),
            "16-bit RGB with a key.png": build.png(wide, 16, 2, chunk(b"tRNS", bytes(6))),
            "RGBA.png": encode(image.convert("RGBA"), "PNG"),
            "16-bit RGBA.png": build.png(np.concatenate([wide, opaque], axis=-1), 16, 6),
            "palette.png": encode(palette, "PNG"),
            "palette with alpha.png": encode(palette, "PNG", transparency=bytes([254]) * 200),
            "key colour.png": build.with_chunks(picture, chunk(b"tRNS", b"\0\1\0\2\0\3")),
            "key of the wrong length.png": build.with_chunks(picture, chunk(b"tRNS", b"\0")),
            "colour profile within limits.png": encode(image, "PNG", icc_profile=profile),
            "text within limits.png": build.with_chunks(
                picture, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))
            ),
            "broken text.png": build.with_chunks(picture, chunk(b"zTXt", b"k\0\0not deflate"), chunk(b"iTXt", b"\1")),
            "bad checksum of a text.png": build.with_chunks(picture, chunk(b"tEXt", b"k\0v")[:-4] + b"\0\0\0\0"),
            "animation of one frame.png": build.with_chunks(picture, chunk(b"acTL", b"\0\0\0\1\0\0\0\0")),
            "trailer.png": picture + random.Random(8).randbytes(5000),
            "orientation 6.png": turned,
            "black last row.png": encode(np.vstack([pixels[:-1], 0 * pixels[-1:]]), "PNG"),
            "empty data chunks.png": picture[:33] + chunk(b"IDAT") * 3 + picture[33:],
        },
    )
    for name, data in {
        "grey.png": build.png(grey, 8, 0),
        "grey, 1 bit.png": build.png(grey // 128, 1, 0),
        "grey, 2 bits.png": build.png(grey // 64, 2, 0, chunk(b"tRNS", b"\0\1")),
        "grey, 4 bits.png": build.png(grey // 16, 4, 0, chunk(b"tRNS", b"\0\1")),
        "grey, 16 bits.png": build.png(grey.astype(np.uint16) * 257, 16, 0, chunk(b"tRNS", b"\x40\x40")),
        "grey with alpha.png": encode(image.convert("LA"), "PNG"),
        "grey with alpha, 16 bits.png": build.png(np.dstack([grey, grey]).astype(np.uint16) * 257, 16, 4),
        "interlaced.png": build.interlaced(grey),
    }.items():
        yield Sample(name, data, None, like=False)
    yield Sample("16384x8.png", encode(Image.new("L", (16384, 8)), "PNG"), None, 16384, 8, like=False)


def _good_webps() -> Iterator[Sample]:
    image = Image.fromarray(photo())
    lossless = encode(image, "WEBP", lossless=True)
    kind, payload = build.webp_frame(encode(_turned(6), "WEBP", lossless=True))
    turned = build.riff(build.canvas(HEIGHT, WIDTH, 8), (kind, payload), (b"EXIF", b"Exif\0\0" + build.exif(6)))
    yield from _named(
        None,
        {
            "lossy.webp": encode(image, "WEBP", quality=90),
            "lossless.webp": lossless,
            "alpha.webp": encode(image.convert("RGBA"), "WEBP", quality=90, exact=True),
            "trailer.webp": lossless + bytes(999),
            "orientation 6.webp": turned,
        },
    )
