"""Install the programs that the bench compares with, pinned, into `.bench/bin` of this checkout.

    python -m bench.peers_install [NAME ...]

Go programs come by `go install`, ocync by `cargo install`; skopeo and docker-registry are Debian's.
What cannot be had is said, and found missing again when the bench runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".bench" / "bin"


@dataclass(frozen=True, slots=True)
class Package:
    """Where a program comes from: a Go package or a crate, with its version."""

    program: str  # its name in .bench/bin
    source: str
    version: str
    builder: str = "go"


PACKAGES = (
    Package("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    Package("regsync", "github.com/regclient/regclient/cmd/regsync", "v0.11.7"),
    Package("oras", "oras.land/oras/cmd/oras", "v1.3.6"),
    Package("registry3", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"),
    Package("olareg", "github.com/olareg/olareg/cmd/olareg", "latest"),
    Package("helm", "helm.sh/helm/v3/cmd/helm", "v3.19.2"),  # for tests/integration/test_helm.py
    Package(  # for tests/integration/test_gateway.py
        "oci-conformance",
        "github.com/opencontainers/distribution-spec/conformance",
        "v0.0.0-20260831232431-97274622c111",
    ),
    Package("ocync", "ocync", "latest", builder="cargo"),
)


def find(program: str) -> str | None:
    """Path of a program: the bench's own first, then PATH."""
    own = BIN / program
    return str(own) if own.exists() else shutil.which(program)


def install(package: Package) -> str:
    """Install one; an empty string, or why not."""
    stamp = BIN.parent / f"{package.program}.version"
    there = (BIN / package.program).exists() and stamp.exists()
    if there and stamp.read_text() == package.version:
        return ""
    tool = shutil.which(package.builder)
    if tool is None:
        return f"{package.builder} is not installed"
    if package.builder == "cargo":
        command = [tool, "install", "--quiet", "--root", str(BIN.parent), package.source]
    else:
        command = [tool, "install", f"{package.source}@{package.version}"]
    staging = BIN.parent / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    BIN.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(staging), "CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            ["nice", *command],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=1200,
            cwd=staging,  # outside of every Go module
        )
    except subprocess.TimeoutExpired:
        return "took more than 20 minutes"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1]
    built = staging / package.source.rpartition("/")[2]
    if built.exists():
        built.rename(BIN / package.program)
    stamp.write_text(package.version)
    return ""


def main() -> None:
    """Install all, or those named."""
    wanted = sys.argv[1:]
    for package in PACKAGES:
        if wanted and package.program not in wanted:
            continue
        reason = install(package)
        print(f"{package.program} {package.version}: {reason or 'installed'}", flush=True)


if __name__ == "__main__":
    main()
