"""docs/contracts.md says what the code declares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from consumers import dead
from ops.topics import TopicSettings, all_topics
from producers import events, rows
from producers.headers import event_headers, new_traceparent

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "contracts.md").read_text()
SIZES = {"1 MiB": 1 << 20, "the original's + 64 KiB": (1 << 20) + (64 << 10)}


def table_rows() -> dict[str, list[str]]:
    """Topic name -> the other cells of its row."""
    found = {}
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 6:
            names = re.findall(r"`([^`]+)`", cells[0])
            if names[0] == "<topic>.dead":
                names = [f"{name}.dead" for name in names[1:]]
            found.update(dict.fromkeys(names, cells[1:]))
    return found


def test_the_table_of_topics_is_the_declaration() -> None:
    rows_by_name = table_rows()
    specs = {spec.name.replace("g1", "<generation>"): spec for spec in all_topics(TopicSettings(), ["g1"])}
    assert set(rows_by_name) == set(specs)
    for name, (_, _, partitions, kept, size) in rows_by_name.items():
        spec = specs[name]
        assert int(partitions.split()[0]) == spec.partitions, name
        assert SIZES[size] == spec.max_message_bytes, name
        assert kept.startswith("last of each key") == spec.compacted, name
        days = re.search(r"(\d+) days", kept)
        if days:
            lasting = spec.min_compaction_lag_ms if spec.compacted else spec.retention_ms
            assert int(days[1]) * 86_400_000 == lasting, name


def test_every_header_is_described() -> None:
    for name, _ in event_headers("k", "i", "s", "t", 0, new_traceparent(), subject="p"):
        assert f"`{name}`" in DOCUMENT


def test_every_reason_of_an_event_is_described() -> None:
    reasons = set(re.findall(r'Poison\("(\w+)"', Path(events.__file__).read_text()))
    assert len(reasons) == 8
    assert [reason for reason in reasons if f"`{reason}`" not in DOCUMENT] == []


def test_every_column_of_a_manifest_is_described() -> None:
    assert [column for column in rows.COLUMNS if f"`{column}`" not in DOCUMENT] == []


@pytest.mark.parametrize("name", re.findall(rf"^    ({dead.PREFIX}\S+)", dead.__doc__ or "", re.MULTILINE))
def test_every_header_of_a_dead_letter_is_described(name: str) -> None:
    assert name.rstrip(",") in DOCUMENT
