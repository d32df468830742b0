"""Fixtures that tests of several folders share; each lives in tests/support."""

from __future__ import annotations

pytest_plugins = ["tests.support.kafka", "tests.support.triton"]
