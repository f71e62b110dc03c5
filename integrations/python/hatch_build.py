"""Takes the component out of the command when a wheel or an sdist is built, and refuses to build without it."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ComponentHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        directory = Path(self.root) / "src" / "cimd_cache" / "in_process"
        program = os.environ.get("CIMD_CACHE_BIN")
        if program is not None:
            runpy.run_path(str(Path(self.root) / "scripts" / "take_component.py"))["take"](program, directory)
        if version != "editable" and not (directory / "cimd-cache.wasm").exists():
            raise FileNotFoundError("there is no component to pack: set CIMD_CACHE_BIN to the cimd-cache command")
