"""Where exact searches run: on a GPU when there is one and the settings allow it, else on the CPU.

A GPU is used only when its answers in a trial are the CPU's. Torch takes seconds and hundreds of megabytes to import,
so that it is left alone unless the driver's device file is there. Each process that searches has its own copy of the
codes on the GPU.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dotstream.clock import Clock
from dotstream.errors import Misconfigured
from indexer.answers import Find
from indexer.search import nearest
from ops.settings_model import Index

if TYPE_CHECKING:
    from indexer.device_search import DeviceObserver

DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What NVIDIA's driver puts there, under Linux and under Windows' Linux."""
log = logging.getLogger(__name__)


def why_no_gpu() -> str | None:
    """What is missing for searches on a GPU; None when nothing is."""
    if not any(path.exists() for path in DRIVER_FILES):
        return (
            f"none of {', '.join(map(str, DRIVER_FILES))} exists: this machine has no NVIDIA GPU, or lacks its driver"
        )
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} cannot use CUDA: the driver is too old for it, or it was built without"
    return None


def exact_search(index: Index, bits: int, *, clock: Clock, observer: DeviceObserver) -> Find:
    """The search that readers use.

    Args:
        index: settings.
        bits: width of the codes.
        clock: for the rest after a failure of the device.
        observer: told what becomes of searches on the device.

    Raises:
        Misconfigured: `index.device` is cuda, and no GPU can be used.
    """
    if index.device == "cpu":
        return nearest
    missing = why_no_gpu() if bits % 32 == 0 else f"codes of {bits} bits, which a GPU would read 32 at a time"
    if missing is None:
        from indexer.device import DeviceMemory
        from indexer.device_check import disagreement
        from indexer.device_kernels import kernel_distances
        from indexer.device_search import DeviceSearch

        missing = disagreement("cuda", kernel_distances, bits, clock)
        if missing is not None:
            log.warning("the GPU is not used: %s", missing)
    if missing is None:
        log.info("searches run on the GPU, in up to %d MB of its memory", index.device_bytes >> 20)
        memory = DeviceMemory("cuda", index.device_bytes)
        return DeviceSearch(memory, kernel_distances, clock=clock, observer=observer).nearest
    if index.device == "cuda":
        raise Misconfigured(f"index.device is cuda, but {missing}; set it to auto or cpu, or mend this")
    log.debug("searches run on the CPU: %s", missing)
    return nearest
