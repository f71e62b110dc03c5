"""Writes the component and its statements into the package: `CIMD_CACHE_BIN` is the command that has them.

    CIMD_CACHE_BIN=…/cimd-cache python scripts/take_component.py [DIRECTORY]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "src" / "cimd_cache" / "in_process"


def take(program: str, directory: Path) -> None:
    component = directory / "cimd-cache.wasm"
    subprocess.run([program, "component", "--output", str(component)], check=True, stderr=subprocess.PIPE)
    listed = subprocess.run([program, "component", "--statements"], check=True, stdout=subprocess.PIPE)
    (directory / "statements.json").write_bytes(listed.stdout)


if __name__ == "__main__":
    if "CIMD_CACHE_BIN" not in os.environ:
        sys.exit("set CIMD_CACHE_BIN to the cimd-cache command: the component comes from it")
    take(os.environ["CIMD_CACHE_BIN"], Path(sys.argv[1]) if len(sys.argv) > 1 else HOME)
