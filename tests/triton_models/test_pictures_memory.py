"""Memory stays bounded: over thousands of poisoned pictures, and for single ones at the limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DECODES = 2_000
GROWTH_MB = 20

MANY = f"""
import gc, psutil
from dotstream.errors import Poison
from tests.poison.corpus import samples
from triton_models.pictures import decode

def once(count):
    for n in range(count):
        try:
            decode(corpus[n % len(corpus)].data)
        except Poison:
            pass

corpus = samples()
once(2 * len(corpus))
gc.collect()
before = psutil.Process().memory_info().rss
once({DECODES})
gc.collect()
print((psutil.Process().memory_info().rss - before) // 1_000_000)
"""

LARGE = """
import io, resource, sys
from PIL import Image
from triton_models.pictures import decode

file = io.BytesIO()
image = Image.effect_mandelbrot((6000, 6000), (-2, -1.5, 1, 1.5), 20).convert(sys.argv[2])
options = {"compress_level": 1} if sys.argv[1] == "PNG" else {"quality": 50, "subsampling": 0}
image.save(file, sys.argv[1], progressive="progressive" in sys.argv, **options)
data = file.getvalue()
del image, file
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1000
open("/proc/self/clear_refs", "w").write("5")
before = peak()
decode(data)
print(peak() - before)
"""


def run(program: str, *arguments: str) -> int:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=root, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_thousands_of_poisoned_pictures_leave_nothing_behind() -> None:
    assert run(MANY) <= GROWTH_MB


def test_a_36_megapixel_picture_takes_what_is_promised() -> None:
    assert run(LARGE, "JPEG", "RGB") <= 150
    assert run(LARGE, "JPEG", "RGB", "progressive") <= 360
    assert run(LARGE, "PNG", "RGBA") <= 360
    assert run(LARGE, "WEBP", "RGB") <= 650
