"""docs/tutorial/first-sync.md, carried out command by command as it is written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import ManagedProcess, free_port, wait_until
from tests.support.transship import clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial/first-sync.md"
BACKGROUND = ("api.samples.registry", " up ")


def commands(page: str) -> list[str]:
    """The commands of all console blocks, and a marker where the file is to be written."""
    found = []
    for kind, block in re.findall(r"```(console|yaml)\n(.*?)```", page, re.DOTALL):
        found += ["WRITE " + block] if kind == "yaml" else block.strip().splitlines()
    return found


def wait_for(process: ManagedProcess, words: list[str]) -> None:
    """Wait until a command that goes on in the background is ready for the next step."""
    host, _, port = words[words.index("--listen") + 1].rpartition(":")
    if port == "0":
        wait_until(lambda: "press Ctrl-C" in process.output(), 60, "transship up")
    else:
        process.wait_ready(lambda: f"serving on http://{host}:{port}" in process.output())


def test_every_step_does_what_the_page_says(tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    for port in ("5000", "5001"):
        page = page.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    outputs: list[str] = []

    with ExitStack() as stack:
        for number, line in enumerate(commands(page)):
            if line == "make run":
                continue  # test_main_job and CI run it
            if line.startswith("WRITE "):
                (tmp_path / "transship.yaml").write_text(line.removeprefix("WRITE "))
                continue
            words = [
                word.replace(".venv/bin/python", sys.executable).replace(
                    ".venv/bin/transship", str(Path(sys.executable).with_name("transship"))
                )
                for word in shlex.split(line)
            ]
            if any(mark in line for mark in BACKGROUND):
                if " up " in line:
                    words += ["--listen", "127.0.0.1:0", "--flower-listen", "127.0.0.1:0"]
                background = ManagedProcess(
                    f"step{number}",
                    words,
                    log_directory=tmp_path,
                    environment=environment,
                    cwd=tmp_path,
                    death_signal=15,
                )
                stack.enter_context(background)
                wait_for(background, words)
                continue
            done = subprocess.run(
                words,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=90,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            outputs.append(done.stdout)

    assert "valid: 2 registries, 1 rule" in outputs[1]
    assert "26 copied" in outputs[2]
    assert "succeeded" in outputs[-1]
