"""Generates the protobuf code that is checked in; `--check` tells whether it has drifted from the .proto files.

Run by `make proto` and `make check`; the generator is the development dependency grpcio-tools.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ("producers/events.proto", "indexer/records.proto")
SUFFIXES = ("_pb2.py", "_pb2.pyi")


def generate(into: Path) -> None:
    """Writes the generated modules below `into`, laid out as their packages are.

    Raises:
        SystemExit: protoc refused a file; it has already printed why.
    """
    from grpc_tools import protoc

    well_known = files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{ROOT}", f"-I{well_known}", f"--python_out={into}", f"--pyi_out={into}", *PROTOS]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc refused a .proto file")


def drifted() -> list[str]:
    """The generated files whose checked-in text is not what the .proto files give."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        names = [proto.removesuffix(".proto") + suffix for proto in PROTOS for suffix in SUFFIXES]
        return [
            n for n in names if not (ROOT / n).exists() or (ROOT / n).read_bytes() != (Path(folder) / n).read_bytes()
        ]


def main() -> int:
    if "--check" in sys.argv[1:]:
        stale = drifted()
        if stale:
            print(f"generated code has drifted: {', '.join(stale)}; run `make proto`", file=sys.stderr)
        return 1 if stale else 0
    generate(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
