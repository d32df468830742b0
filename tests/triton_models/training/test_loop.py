"""The training loop: it learns, goes on bit by bit, and a loss that is no number leaves the last checkpoint good."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dotstream.errors import Misconfigured
from triton_models.training.loop import Run, device_of
from triton_models.training.records import checkpoints_in
from triton_models.training.settings import LossNotFinite, TrainSettings

ABOUT = {"format": "test 1", "data": "points"}
SETTINGS = TrainSettings(
    steps=12, batch=8, learning_rate=0.1, warmup=2, checkpoint_every=4, log_every=2, threads=1, device="cpu"
)


def begin(
    folder: Path,
    *,
    bad_step: int | None = None,
    about: Mapping[str, object] = ABOUT,
    settings: TrainSettings = SETTINGS,
) -> tuple[Run, nn.Module]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def loss(step: int, device: torch.device) -> tuple[Tensor, Mapping[str, float]]:
        points = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).to(device)
        value = nn.functional.mse_loss(network(points)[:, 0], points.sum(dim=1))
        return value * (math.nan if step == bad_step else 1.0), {"points": 8.0}

    groups = [{"params": list(network.parameters()), "lr": settings.learning_rate}]
    return Run(network, groups, loss, settings, folder, about), network


def weights(network: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in network.parameters()]


def test_it_learns_logs_and_keeps_the_newest_two(tmp_path: Path) -> None:
    run, _ = begin(tmp_path)
    said: list[str] = []
    last = run.go(resume=False, say=said.append)
    assert last.name == "checkpoint-00000012.pt"
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-00000008.pt", "checkpoint-00000012.pt"]
    with (tmp_path / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10, 12] and len(said) == 6
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) and rows[0]["points"] == "8.0"


def test_a_cut_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    whole, expected = begin(tmp_path / "whole")
    whole.go(resume=False, say=lambda _: None)
    with pytest.raises(LossNotFinite):
        begin(tmp_path / "cut", bad_step=11)[0].go(resume=False, say=lambda _: None)
    again, network = begin(tmp_path / "cut")
    again.go(resume=True, say=lambda _: None)
    for one, other in zip(weights(network), weights(expected), strict=True):
        assert torch.equal(one, other)
    with (tmp_path / "cut" / "log.csv").open() as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    assert steps == [2, 4, 6, 8, 10, 12], "rows behind the checkpoint are written once"


def test_a_loss_that_is_no_number_stops_before_the_weights_change(tmp_path: Path) -> None:
    run, network = begin(tmp_path, bad_step=9)
    with pytest.raises(LossNotFinite, match=r"step 10 .*checkpoint-00000008\.pt"):
        run.go(resume=False, say=lambda _: None)
    assert all(torch.isfinite(value).all() for value in weights(network))
    state = torch.load(tmp_path / "checkpoint-00000008.pt", weights_only=True)
    assert state["step"] == 8 and all(torch.isfinite(value).all() for value in state["model"].values())


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    overflows = replace(SETTINGS, learning_rate=1e38, weight_decay=100.0, clip=1e30, warmup=0, checkpoint_every=1)
    run, _ = begin(tmp_path, settings=overflows)
    with pytest.raises(LossNotFinite, match=r"step 1 left weights that are no numbers: no checkpoint was written yet"):
        run.go(resume=False, say=lambda _: None)
    assert not checkpoints_in(tmp_path)


def test_runs_are_not_mixed_up(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no checkpoint to go on from"):
        begin(tmp_path)[0].go(resume=True, say=lambda _: None)
    begin(tmp_path)[0].go(resume=False, say=lambda _: None)
    with pytest.raises(Misconfigured, match="--resume"):
        begin(tmp_path)[0].go(resume=False, say=lambda _: None)
    with pytest.raises(Misconfigured, match="data differ"):
        begin(tmp_path, about={**ABOUT, "data": "others"})[0].go(resume=True, say=lambda _: None)
    checkpoints_in(tmp_path)[-1].write_bytes(b"half of a file")
    with pytest.raises(Misconfigured, match="cannot be read as weights"):
        begin(tmp_path)[0].go(resume=True, say=lambda _: None)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"steps": 1, "learning_rate": math.nan}, {"steps": 1, "device": "tpu"}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        TrainSettings(**bad)  # type: ignore[arg-type]


def test_cuda_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == "cpu"
    with pytest.raises(Misconfigured, match="cuda"):
        device_of("cuda")


def test_the_rate_rises_and_falls() -> None:
    rates = [SETTINGS.rate(step) for step in range(12)]
    assert rates[0] < rates[1] and rates[1:] == sorted(rates[1:], reverse=True) and rates[-1] < 0.05
