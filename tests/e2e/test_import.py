"""Files of other tools, carried out by them and by us: the same tags at the same digests."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.samples.registry import SampleRegistry
from tests.support.images import push_image
from tests.support.transship import transship
from tests.support.up import running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
TAGS = ("1.0", "1.13.1-alpine-perl", "1.13.3-alpine-perl", "2.0", "v3", "latest", "edge")
REPOSITORIES = ("team/app", "team/web", "base")
REGSYNC = shutil.which("regsync") or str(ROOT / ".bench/bin/regsync")


@dataclass
class Stage:
    """A source, a registry for the other tool, and one for us."""

    source: SampleRegistry
    theirs: SampleRegistry
    ours: SampleRegistry
    folder: Path

    def write(self, name: str, text: str, to: SampleRegistry) -> Path:
        path = self.folder / name
        path.write_text(text.replace("SOURCE", host(self.source)).replace("TO", host(to)))
        return path

    def sync(self, form: str, path: Path, *more: str) -> dict[str, object]:
        """Carry the file out by `transship sync --from`; its report."""
        plain = [f"--plain-http={host(one)}" for one in (self.source, self.ours)]
        done = transship("sync", "--from", form, str(path), *plain, *more, "--json", timeout=120)
        assert done.returncode == 0, done.stderr
        report: dict[str, object] = json.loads(done.stdout)
        assert report["failures"] == []
        return report


def host(registry: SampleRegistry) -> str:
    return registry.url.removeprefix("http://")


def tags_at(registry: SampleRegistry) -> dict[str, str]:
    """Every tag with its digest."""
    found = {}
    for repository in registry.storage.repositories():
        for tag, digest in (registry.storage.tags(repository) or {}).items():
            found[f"{repository}:{tag}"] = digest
    return found


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with SampleRegistry() as source, SampleRegistry() as theirs, SampleRegistry() as ours:
        for repository in REPOSITORIES:
            for tag in TAGS:
                push_image(source, repository, tag)
        yield Stage(source, theirs, ours, tmp_path)


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_a_file_of_skopeo(stage: Stage) -> None:
    text = """\
SOURCE:
  tls-verify: false
  images:
    team/app: []
    base: ["1.0", "v3"]
  images-by-tag-regex:
    team/web: ^1\\.13\\.[12]-alpine-perl$
"""
    theirs = stage.write("sync.yaml", text, stage.theirs)
    run(
        *("skopeo", "sync", "--all", "--preserve-digests", "--src", "yaml", "--dest", "docker"),
        *("--dest-tls-verify=false", str(theirs), f"{host(stage.theirs)}/mirror"),
    )

    stage.sync("skopeo", theirs, f"--to={host(stage.ours)}/mirror", "--all-platforms")

    assert tags_at(stage.ours) == tags_at(stage.theirs)
    assert len(tags_at(stage.ours)) == len(TAGS) + 3


@pytest.mark.skipif(not Path(REGSYNC).exists(), reason="regsync is not installed")
def test_a_file_of_regsync(stage: Stage) -> None:
    text = """\
version: 1
creds:
  - {registry: SOURCE, tls: disabled}
  - {registry: TO, tls: disabled}
sync:
  - {source: "SOURCE/team/app", target: "TO/m/app", type: repository, tags: {allow: ['v\\d+', '1\\..*'], deny: ['.*perl']}}
  - {source: "SOURCE/team/web:edge", target: "TO/m/web:stable", type: image}
  - {source: "SOURCE/base", target: "TO/base", type: repository, tagSets: [{semverRange: [">=1.0 <2.1"], deny: ['.*-.*']}, {allow: [latest]}]}
"""
    run(REGSYNC, "once", "-c", str(stage.write("theirs.yml", text, stage.theirs)))

    stage.sync("regsync", stage.write("ours.yml", text, stage.ours))

    assert tags_at(stage.ours) == tags_at(stage.theirs)
    assert tags_at(stage.ours)["m/web:stable"] == tags_at(stage.source)["team/web:edge"]


def test_files_of_image_syncer_and_image_transfer_say_the_same(stage: Stage) -> None:
    """Neither tool is to be had here: what their files mean is held against the source."""
    auth = stage.write("auth.yaml", "SOURCE: {username: u, password: CANARY}\n", stage.ours)
    syncer = """\
SOURCE/team/app: TO/a/app
SOURCE/team/web:1.0,2.0: TO/a/web:one,two
"SOURCE/base:/perl$/": TO/a/base
"""
    done = transship(
        *("import", "image-syncer", str(stage.write("images.yaml", syncer, stage.ours)), str(auth)),
        *("--plain-http", host(stage.source), "--plain-http", host(stage.ours)),
    )
    assert done.returncode == 0, done.stderr
    assert "CANARY" not in done.stdout + done.stderr

    stage.sync("image-syncer", stage.write("images.yaml", syncer, stage.ours))

    source = tags_at(stage.source)
    expected = {f"a/app:{tag}": source[f"team/app:{tag}"] for tag in TAGS}
    expected |= {"a/web:one": source["team/web:1.0"], "a/web:two": source["team/web:2.0"]}
    expected |= {f"a/base:{tag}": source[f"base:{tag}"] for tag in TAGS if tag.endswith("perl")}
    assert tags_at(stage.ours) == expected


def test_what_is_not_carried_over_is_no_success(stage: Stage) -> None:
    text = f"{host(stage.source)}/base:v3,{host(stage.ours)}/m/base\nnot/A/name,x.example/y\n"
    path = stage.write("images.csv", text, stage.ours)
    plain = [f"--plain-http={host(one)}" for one in (stage.source, stage.ours)]

    done = transship("sync", "--from", "list", str(path), *plain, timeout=120)

    assert done.returncode == 1, done.stderr
    assert f"{path}:2:" in done.stderr
    assert list(tags_at(stage.ours)) == ["m/base:v3"]


def test_passwords_are_kept_by_a_server(stage: Stage, tmp_path: Path) -> None:
    auth = stage.write("auth.yaml", "SOURCE: {username: u, password: CANARY-1}\n", stage.ours)
    images = stage.write("images.yaml", "SOURCE/base:v3: TO/m/base\n", stage.ours)
    plain = [f"--plain-http={host(one)}" for one in (stage.source, stage.ours)]
    with running_up(tmp_path / "up") as up:
        words = ("import", "image-syncer", str(auth), str(images), *plain, "--store-secrets")
        done = transship(*words, TRANSSHIP_URL=up.url, TRANSSHIP_TOKEN=up.token)
        assert done.returncode == 0, done.stderr
        assert "CANARY" not in done.stdout + done.stderr
        file = tmp_path / "imported.yaml"
        file.write_text(done.stdout)
        (secret,) = up.ask("GET", "/secrets")["items"]
        assert secret["hosts"] == [host(stage.source)]
        applied = transship(
            "apply", "-f", str(file), TRANSSHIP_URL=up.url, TRANSSHIP_TOKEN=up.token
        )
        assert applied.returncode == 0, applied.stderr
        (rule,) = up.ask("GET", "/rules")["items"]
        up.ask("POST", f"/rules/{rule['name']}/executions")
        up.idle()
    assert list(tags_at(stage.ours)) == ["m/base:v3"]
