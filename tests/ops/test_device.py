"""Where searches run: by the settings, and by what the machine has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import ops.device
from consumers.metrics import WorkerMetrics
from discovery.metrics import DeviceMetrics
from dotstream.clock import ManualClock
from dotstream.errors import Misconfigured
from indexer.search import nearest
from ops.bench.gpu import main
from ops.device import exact_search
from ops.serve import _faster
from ops.settings import Settings
from ops.settings_model import Index

NO_TORCH = """
import sys
from pathlib import Path
import ops.device, ops.serve, ops.work
from dotstream.clock import ManualClock
from ops.settings_model import Index
ops.device.DRIVER_FILES = (Path("/nonexistent/driver"),)
ops.device.exact_search(Index(), 4096, clock=ManualClock(), observer=None)
assert "torch" not in sys.modules and "triton" not in sys.modules
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The driver's file of a machine that torch finds no GPU on; it is not there yet."""
    file = tmp_path / "nvidiactl"
    monkeypatch.setattr(ops.device, "DRIVER_FILES", (file,))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return file


def chosen(index: Index, bits: int = 4096) -> object:
    return exact_search(index, bits, clock=ManualClock(), observer=DeviceMetrics(CollectorRegistry()))


def test_without_a_gpu_the_cpu_searches_unless_a_gpu_is_asked_for(gpu: Path) -> None:
    assert chosen(Index()) is nearest
    assert chosen(Index(device="cpu")) is nearest
    with pytest.raises(Misconfigured, match="no NVIDIA GPU"):
        chosen(Index(device="cuda"))
    gpu.touch()
    assert chosen(Index()) is nearest
    with pytest.raises(Misconfigured, match="cannot use CUDA"):
        chosen(Index(device="cuda"))


def test_with_a_gpu_searches_run_there(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.touch()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("indexer.device_check.disagreement", lambda *_: None)
    found = chosen(Index(device_bytes=1 << 30))
    assert getattr(found, "__qualname__", "") == "DeviceSearch.nearest"
    assert chosen(Index(device="cpu")) is nearest
    assert chosen(Index(), bits=72) is nearest
    with pytest.raises(Misconfigured, match="72 bits"):
        chosen(Index(device="cuda"), bits=72)


def test_without_a_gpu_torch_is_not_imported() -> None:
    subprocess.run([sys.executable, "-c", NO_TORCH], check=True, timeout=60)


def test_what_becomes_of_searches_is_exported() -> None:
    registry = CollectorRegistry()
    for observer in (DeviceMetrics(registry), WorkerMetrics("dots", registry)):
        observer.fell_back("memory")
        observer.holds(7, 3)
    role = {"role": "dots"}
    assert registry.get_sample_value("dotstream_api_device_failures_total", {"reason": "memory"}) == 1
    assert registry.get_sample_value("dotstream_api_device_bytes") == 7
    assert registry.get_sample_value("dotstream_api_device_rows_left") == 3
    assert registry.get_sample_value("dotstream_device_failures_total", {"reason": "memory"} | role) == 1
    assert registry.get_sample_value("dotstream_device_bytes", role) == 7
    assert registry.get_sample_value("dotstream_device_rows_left", role) == 3


def test_approximate_answers_are_opted_in_to() -> None:
    assert _faster(Settings(), CollectorRegistry()) is None
    faster = _faster(Settings(index=Index(approximate=True, probe_share=1.0)), CollectorRegistry())
    assert faster is not None
    faster.close()
    for share in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match="probe_share"):
            Index(probe_share=share)


def test_a_gpu_that_fails_its_trial_is_not_used(
    gpu: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.touch()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("indexer.device_check.disagreement", lambda *_: "it found other codes")
    assert chosen(Index()) is nearest
    assert "it found other codes" in caplog.text
    with pytest.raises(Misconfigured, match="other codes"):
        chosen(Index(device="cuda"))


def test_the_benchmark_says_in_one_line_that_it_needs_a_gpu(gpu: Path) -> None:
    with pytest.raises(Misconfigured, match="needs a GPU, but none of"):
        main(as_json=True)
