"""Generates the stubs of every language from proto/, into the tree or into another directory.

Python stubs come from a pinned, older grpcio-tools: code that it generates runs with any newer runtime,
not the other way round. Go stubs need protoc-gen-go and protoc-gen-go-grpc (`make tools`).

    python scripts/generate.py              write into the tree
    python scripts/generate.py --check      write elsewhere and fail when the tree differs
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
PYTHON_OUT = Path("clients/python")
GO_OUT = Path("clients/go")
GO_MODULE = "github.com/atlasqueue/atlasqueue/clients/go"
PINNED = ["grpcio-tools==1.76.0", "mypy-protobuf==5.1.0", "setuptools<81"]


def generator() -> Path:
    """The Python of the generator's own virtual environment, made on first use."""
    python = TOOLS / "generate" / "bin" / "python"
    if not python.exists():
        print("installing the generator into .tools/generate ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", TOOLS / "generate"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED], check=True)
    return python


def protos() -> list[str]:
    """The files of the contract, relative to proto/."""
    return sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto").rglob("*.proto"))


def protoc(*arguments: str) -> None:
    """Runs the pinned protoc over the contract."""
    python = generator()
    environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    command = [python, "-m", "grpc_tools.protoc", "-Iproto", "-Ithird_party/googleapis"]
    subprocess.run(
        [*command, *arguments, *protos()],
        check=True,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL if "--mypy_out" in " ".join(arguments) else None,
    )


def generate_python(out: Path) -> None:
    """Messages, gRPC stubs and types."""
    (out / PYTHON_OUT).mkdir(parents=True, exist_ok=True)
    target = out / PYTHON_OUT
    protoc(f"--python_out={target}", f"--grpc_python_out={target}", f"--mypy_out=quiet:{target}")
    protoc(f"--mypy_grpc_out=quiet:{target}")
    package = target / "atlasqueue" / "v1" / "__init__.py"
    package.write_text('"""The contract\'s generated messages and stubs."""\n')


def go_plugins() -> Path | None:
    """Where the Go plugins are, or None."""
    directory = TOOLS / "bin"
    found = all((directory / name).exists() for name in ("protoc-gen-go", "protoc-gen-go-grpc"))
    return directory if found else None


def generate_go(out: Path, plugins: Path) -> None:
    """Messages and gRPC stubs."""
    target = out / GO_OUT
    target.mkdir(parents=True, exist_ok=True)
    protoc(
        f"--plugin={plugins}/protoc-gen-go",
        f"--plugin={plugins}/protoc-gen-go-grpc",
        f"--go_out={target}",
        f"--go_opt=module={GO_MODULE}",
        f"--go-grpc_out={target}",
        f"--go-grpc_opt=module={GO_MODULE}",
    )


def differences(out: Path, part: Path) -> list[str]:
    """Generated files below `part` that the tree lacks, or has otherwise, or has too many of."""
    wanted = {p.relative_to(out) for p in (out / part).rglob("*") if p.is_file()}
    present = {
        p.relative_to(ROOT)
        for pattern in ("**/*_pb2*.py*", "**/*.pb.go", "**/atlasqueue/v1/__init__.py")
        for p in (ROOT / part).glob(pattern)
        if "__pycache__" not in p.parts
    }
    changed = {p for p in wanted & present if not filecmp.cmp(out / p, ROOT / p, shallow=False)}
    return sorted(str(p) for p in (wanted ^ present) | changed)


def main() -> int:
    """Generates, or checks for drift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the tree differs")
    check = parser.parse_args().check
    plugins = go_plugins()
    if plugins is None:
        print("Go stubs are left out: `make tools` installs their plugins (it needs Go)")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) if check else ROOT
        generate_python(out)
        parts = [PYTHON_OUT]
        if plugins:
            generate_go(out, plugins)
            parts.append(GO_OUT)
        if not check:
            return 0
        drift = [name for part in parts for name in differences(out, part)]
    for name in drift:
        print(f"differs from what proto/ generates: {name}")
    print("run `make generate`" if drift else "generated code is up to date")
    return 1 if drift else 0


if __name__ == "__main__":
    sys.exit(main())
