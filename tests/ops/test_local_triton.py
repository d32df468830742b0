"""The local Triton server: its environment, its start and end, and what a person is told when it cannot run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from tritonclient import grpc

from dotstream.errors import Fatal, Misconfigured, Unavailable
from ops.local import triton_environment
from ops.local.ports import free_ports, is_free
from ops.local.triton import TritonEnvironment, TritonProcess, ensure_environment, start
from tests.support.triton import StartTriton


def regions(server: TritonProcess) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{server.prefix}*"))


def instances(server: TritonProcess) -> list[psutil.Process]:
    """The model instances of a server, in processes of their own; by its prefix, so also those that lost it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(server.prefix) for word in words):
            found.append(process)
    return found


def wait_until(condition: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {limit_s} s"
        time.sleep(0.02)


def quiet(_: str) -> None:
    """Reports progress to nobody."""


def test_environment_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    first = ensure_environment(tmp_path, said.append)
    assert len(said) == 1 and "Triton" in said[0]
    made = first.server.stat().st_ctime_ns
    assert ensure_environment(tmp_path, said.append) == first
    assert len(said) == 1 and first.server.stat().st_ctime_ns == made


def test_two_processes_may_make_the_environment_at_once(tmp_path: Path, triton_environment: TritonEnvironment) -> None:
    # What a killed build left behind is in nobody's way.
    leftover = tmp_path / "triton" / f"{triton_environment.folder.name}.building" / "lib"
    leftover.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=ensure_environment, args=(tmp_path, quiet)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(200)
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert not leftover.exists()


def test_a_python_that_the_server_cannot_use_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"Python 3\.11 or 3\.12, not on 3\.14"):
        ensure_environment(tmp_path, quiet, python="3.14")


def test_no_usable_python_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose only Python is too new, and a uv that finds no other."""
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setattr(triton_environment, "find_uv_bin", lambda: str(uv))
    monkeypatch.setattr(triton_environment, "RUNNING", "3.14")
    with pytest.raises(Misconfigured, match=r"beside the running 3\.14.*uv python install 3\.12"):
        ensure_environment(tmp_path, quiet)


def test_a_lost_uv_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> str:
        raise FileNotFoundError("no uv here")

    monkeypatch.setattr(triton_environment, "find_uv_bin", lost)
    with pytest.raises(Misconfigured, match=r"no uv here.*reinstall it"):
        ensure_environment(tmp_path, quiet)


def test_uv_need_not_be_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(triton_environment._uv()).is_file()


def test_packages_that_do_not_come_are_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: could not connect' >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setattr(triton_environment, "find_uv_bin", lambda: str(uv))
    with pytest.raises(Unavailable, match="could not connect"):
        ensure_environment(tmp_path, quiet)


def test_a_missing_library_is_said(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    without = {**triton_environment.variables, "LD_LIBRARY_PATH": str(tmp_path)}
    broken = TritonEnvironment(**{**vars(triton_environment), "variables": without})
    try:
        ensure_libraries(broken)
    except Misconfigured as error:
        assert "apt-get install libpython3.1" in str(error) or "needs lib" in str(error)
    else:
        pytest.skip("this machine has Python's library among the system's")


def ensure_libraries(environment: TritonEnvironment) -> None:
    triton_environment._check_libraries(environment, environment.folder.name.partition("-")[0])


def test_start_and_stop_leave_nothing_behind(own_triton: StartTriton, exported_repository: Path) -> None:
    server = own_triton(exported_repository)
    assert server.alive() and server.crashed_instances() == 0
    assert os.getsid(server.pid) == server.pid
    assert len(instances(server)) == 4 and regions(server)
    with grpc.InferenceServerClient(server.address) as client:
        assert client.is_model_ready("ssd_mobilenet_v2", "1") and client.is_model_ready("efficientnet_lite0", "1")
    ports = [int(address.rsplit(":", 1)[1]) for address in (server.address, server.http, server.metrics)]
    assert not any(is_free(port) for port in ports)
    server.stop(20)
    assert not server.alive()
    assert instances(server) == [] and regions(server) == []
    assert all(is_free(port) for port in ports)
    server.stop(1)


def test_a_killed_server_starts_again_in_its_place(own_triton: StartTriton, exported_repository: Path) -> None:
    """kill -9 of the server alone: its model instances and memory stay until the next start in the folder."""
    first = own_triton(exported_repository)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not first.alive())
    assert regions(first)
    second = own_triton(exported_repository)
    assert (second.address, second.http, second.metrics) == (first.address, first.http, first.metrics)
    assert instances(first) == [] and regions(first) == []
    assert len(instances(second)) == 4


def test_a_crashed_instance_is_seen(own_triton: StartTriton, exported_repository: Path) -> None:
    server = own_triton(exported_repository)
    instances(server)[0].kill()
    wait_until(lambda: server.crashed_instances() == 1)
    assert server.alive()
    server.kill()
    assert own_triton(exported_repository).crashed_instances() == 0


def test_an_instance_that_dies_while_the_server_starts_is_seen(
    triton_environment: TritonEnvironment, exported_repository: Path, tmp_path: Path
) -> None:
    """The server would wait for it and never be ready."""
    server = start(triton_environment, exported_repository, tmp_path)
    try:
        wait_until(lambda: len(instances(server)) > 0)
        for instance in instances(server):
            instance.kill()
        started = time.monotonic()
        with pytest.raises((Unavailable, Fatal)):
            server.wait_ready(60)
        assert time.monotonic() - started < 30
    finally:
        server.kill()


def test_models_come_and_go_in_explicit_mode(own_triton: StartTriton, copied_repository: Path) -> None:
    """A second version, put in place by a rename and loaded, is served beside the first one."""
    server = own_triton(copied_repository, control="explicit")
    model = copied_repository / "efficientnet_lite0"
    picture = np.full((1, 224, 224, 3), 99, np.uint8)
    tensor = grpc.InferInput("image", picture.shape, "UINT8")
    tensor.set_data_from_numpy(picture)
    with grpc.InferenceServerClient(server.address) as client:
        (model / ".2").mkdir()
        (model / ".2" / "model.onnx").write_bytes((model / "1" / "model.onnx").read_bytes())
        (model / ".2").rename(model / "2")
        client.load_model("efficientnet_lite0")
        codes = [client.infer("efficientnet_lite0", [tensor], version).as_numpy("codes") for version in ("1", "2")]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert codes[0].any()


def test_a_taken_port_is_said(triton_environment: TritonEnvironment, exported_repository: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Misconfigured, match=f"port {port} .* is taken"):
        start(triton_environment, exported_repository, tmp_path, grpc_port=port)


def test_asked_ports_are_taken(own_triton: StartTriton, exported_repository: Path) -> None:
    (port,) = free_ports(1)
    assert own_triton(exported_repository, grpc_port=port).address == f"127.0.0.1:{port}"


def test_one_server_per_folder(
    own_triton: StartTriton, triton_environment: TritonEnvironment, exported_repository: Path
) -> None:
    server = own_triton(exported_repository)
    with pytest.raises(Misconfigured, match=f"already; stop it first: kill {server.pid}"):
        start(triton_environment, exported_repository, server.folder)


def test_an_empty_repository_is_said(triton_environment: TritonEnvironment, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="dotstream models export"):
        start(triton_environment, tmp_path, tmp_path / "triton")


def test_a_model_that_does_not_load_ends_the_start(
    triton_environment: TritonEnvironment, copied_repository: Path, tmp_path: Path
) -> None:
    (copied_repository / "efficientnet_lite0" / "1" / "model.onnx").write_bytes(b"not a model")
    server = start(triton_environment, copied_repository, tmp_path / "triton")
    try:
        with pytest.raises(Fatal, match="efficientnet_lite0"):
            server.wait_ready(60)
    finally:
        server.kill()
    assert regions(server) == []


def test_a_server_that_is_not_ready_in_time_is_unavailable(
    triton_environment: TritonEnvironment, exported_repository: Path, tmp_path: Path
) -> None:
    server = start(triton_environment, exported_repository, tmp_path / "triton")
    try:
        with pytest.raises(Unavailable, match=r"not ready within 0\.01 s"):
            server.wait_ready(0.01)
    finally:
        server.kill()
    assert instances(server) == []
