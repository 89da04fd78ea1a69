"""`make release`: all files of a release in one folder, from a clean checkout.

sdist and wheel, the chart where there is Helm, pins of a production environment with the hashes of their files, an SBOM
(CycloneDX) of the same, and SHA256SUMS. Needs the package index; writes no address of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.peers_install import find

ROOT = Path(__file__).parents[2]
PINS, SBOM, SUMS = "requirements.txt", "transship.cdx.json", "SHA256SUMS"


def run(words: list[str], environment: dict[str, str]) -> None:
    """Run a program in the checkout; what it says is shown, and its failure ends the release."""
    subprocess.run(words, cwd=ROOT, check=True, env=environment, timeout=900)


def build(folder: Path, environment: dict[str, str]) -> None:
    """Write all files but the sums."""
    python = [sys.executable, "-m"]
    run([*python, "hatchling", "build", "-d", str(folder)], environment)
    words = ["--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate",
             "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options"]  # fmt: skip
    pins = folder / PINS
    run([*python, "piptools", "compile", *words, "-c", "requirements/constraints.txt", "-o", str(pins), "pyproject.toml"], environment)  # fmt: skip
    words = ["--output-reproducible", "--of", "JSON", "--sv", "1.6", "--mc-type", "application"]
    sbom = folder / SBOM
    run([*python, "cyclonedx_py", "requirements", *words, "--pyproject", "pyproject.toml", "-o", str(sbom), str(pins)], environment)  # fmt: skip
    sbom.write_text(without_addresses(sbom.read_text("utf-8")), "utf-8")
    helm = find("helm")
    if helm is None:
        print("no helm: the chart is left out (python -m bench.peers_install helm)")
    else:
        run([helm, "package", "deploy/helm/transship", "-d", str(folder)], environment)
        for chart in folder.glob("transship-*.tgz"):
            chart.rename(folder / chart.name.replace("transship-", "transship-chart-"))


def without_addresses(sbom: str) -> str:
    """An SBOM whose references name packages (purl) instead of leading to an index; their hashes stay."""
    document: dict[str, Any] = json.loads(sbom)
    for component in document.get("components", ()):
        for reference in component.get("externalReferences", ()):
            reference["url"] = component["purl"]
    return json.dumps(document, indent=2) + "\n"


def sums(folder: Path) -> str:
    """The lines of SHA256SUMS, as `sha256sum --check` reads them."""
    files = sorted(one for one in folder.iterdir() if one.is_file() and one.name != SUMS)
    return "".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files)


def main() -> int:
    """Make a release in a folder that is empty or not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dirty", action="store_true", help="also of changes that no commit has")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    git = ["git", "-C", str(ROOT)]
    changed = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True)
    if changed.stdout and not chosen.dirty:
        sys.stderr.write("release: there are changes that no commit has: commit them, or DIRTY=1\n")
        return 2
    if folder.exists() and any(folder.iterdir()):
        sys.stderr.write(f"release: {folder.name} is not empty: remove it, or name another one\n")
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    when = subprocess.run([*git, "log", "-1", "--format=%ct"], check=True, capture_output=True)
    build(folder, {**os.environ, "SOURCE_DATE_EPOCH": when.stdout.decode().strip()})
    (folder / SUMS).write_text(sums(folder), "utf-8")
    print(f"{folder}:\n{(folder / SUMS).read_text('utf-8')}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
