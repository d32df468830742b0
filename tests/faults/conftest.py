"""Seed and length of the fault runs, which every test of this folder shares.

`FAULT_SEED` repeats a run; without it each run draws a fresh one, and prints it. `FAULT_ROUNDS` sets the rounds of the
kill test, and stretches the rounds of the others in proportion.
"""

from __future__ import annotations

import os
import random

import pytest

SHORT_ROUNDS = 12
SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(2**31))


def pytest_report_header() -> str:
    return f"fault seed: {SEED} (FAULT_SEED={SEED} repeats this run)"


@pytest.fixture(scope="session")
def seed() -> int:
    print(f"FAULT_SEED={SEED}")
    return SEED


def rounds(short: int) -> int:
    """So many rounds in the short run, more or fewer as FAULT_ROUNDS says."""
    wanted = int(os.environ.get("FAULT_ROUNDS") or SHORT_ROUNDS)
    return max(1, short * wanted // SHORT_ROUNDS)
