"""The wheel, installed where nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_postgres import PrivatePostgres, service

HERE = Path(__file__).resolve().parent.parent
README = (HERE / "README.md").read_text()


def run(*words: str | Path, cwd: Path | None = None, **more: str) -> str:
    # Nothing of this checkout may be found by chance.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**environment, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, HERE)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[tuple[Path, Path]]:
    """Two pythons: with the wheel alone, and with all extras."""
    pythons = []
    for extras in ("", "[in-process,psycopg,asyncpg]"):
        directory = tmp_path_factory.mktemp("venv")
        run(sys.executable, "-m", "venv", directory)
        python = directory / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}{extras}")
        if extras:
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "psycopg[binary]", "asyncpg-stubs", "mypy")
        pythons.append(python)
    yield pythons[0], pythons[1]


def test_the_wheel_is_pure_and_carries_the_component(wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    run(os.environ["CIMD_CACHE_BIN"], "component", "--output", tmp_path / "cimd-cache.wasm")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        component = packed.read("cimd_cache/in_process/cimd-cache.wasm")
        metadata = next(packed.read(name).decode() for name in names if name.endswith("METADATA"))
    assert component == (tmp_path / "cimd-cache.wasm").read_bytes()
    assert {"cimd_cache/py.typed", "cimd_cache/in_process/statements.json"} <= set(names)
    assert not [name for name in names if not name.startswith(("cimd_cache/", "cimd_cache-"))]
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert required and all("extra ==" in one for one in required), "the base has no dependency"


def test_the_base_is_of_the_standard_library_alone(environments: tuple[Path, Path], tmp_path: Path) -> None:
    alone, _ = environments
    listed = run(alone, "-m", "pip", "list", "--format", "freeze")
    assert {line.split("==")[0] for line in listed.split()} <= {"cimd-cache", "pip", "setuptools"}
    run(alone, "-I", "-c", "import cimd_cache; cimd_cache.Cache.connect('/run/a.sock').close()", cwd=tmp_path)
    refused = "import cimd_cache; cimd_cache.Cache.in_process(lambda *_: [])"
    done = subprocess.run([alone, "-I", "-c", refused], capture_output=True, text=True)
    assert "cimd-cache[in-process]" in done.stderr


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_readme_has_examples() -> None:
    assert len(examples()) >= 4


@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_of_the_readme_runs_and_is_well_typed(
    number: int, environments: tuple[Path, Path], server: PrivatePostgres, database: str, tmp_path: Path
) -> None:
    _, python = environments
    with service(database) as served:
        example = examples()[number].replace("/run/cimd-cache/cache.sock", served.socket)
        example = example.replace("postgres://cimd_cache_app@localhost/auth", database)
        program = tmp_path / "example.py"
        program.write_text(example)
        run(python, "-I", program, cwd=tmp_path)
    run(python, "-m", "mypy", "--strict", program, cwd=tmp_path)
