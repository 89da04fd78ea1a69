"""transship migrate --from --to: by this machine out of a file, and by a server as a migration, to the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli.main import main
from api.samples.registry import SampleRegistry
from service.model.receipt import Receipt
from tests.support.images import push_image
from tests.support.transship import transship, write_rules
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
NAMES = {"team/app:v1", "team/app:v2", "team/web:1.0", "other/tool:latest"}


@pytest.fixture
def old() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        for number, name in enumerate(sorted(NAMES)):
            repository, _, tag = name.rpartition(":")
            push_image(registry, repository, tag, layers=[b"shared", f"layer {number}".encode()])
        yield registry


@pytest.fixture
def new() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        yield registry


def tags(registry: SampleRegistry) -> dict[str, str]:
    return {
        f"{name}:{tag}": digest
        for name in registry.storage.repositories()
        for tag, digest in (registry.storage.tags(name) or {}).items()
    }


def test_machine_moves_between_two_registries_of_a_file(
    old: SampleRegistry, new: SampleRegistry, tmp_path: Path
) -> None:
    file = write_rules(tmp_path / "t.yaml", old.url, new.url)
    words = ("migrate", "--from", "source", "--to", "destination", "-f", str(file))
    page = tmp_path / "r.html"

    done = transship(*words, "--repositories", "team/*", "-o", str(page), "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["copies"]["copied"] == 3
    assert tags(new) == {name: at for name, at in tags(old).items() if name.startswith("team/")}
    assert "source to destination" in page.read_text()
    assert refused("migrate", "--from", "source", "--to", "nowhere", "-f", str(file))


def refused(*words: str) -> bool:
    """Whether the command line refuses it before it begins."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code == 2


@pytest.fixture
def up(old: SampleRegistry, new: SampleRegistry, tmp_path: Path) -> Iterator[Up]:
    with running_up(tmp_path) as made:
        made.registry("old", old.url)
        made.registry("new", new.url)
        yield made


@pytest.mark.nightly  # each night: docs/how-to/report.md does the same in every run, and looks less closely
def test_server_moves_as_a_migration_and_goes_on_where_it_was(
    old: SampleRegistry, new: SampleRegistry, up: Up, tmp_path: Path
) -> None:
    words = ("migrate", "--from", "old", "--to", "new", "--repository", "moved/{repository}")
    receipt, page = tmp_path / "r.jsonl", tmp_path / "r.html"
    there = {"TRANSSHIP_URL": up.url, "TRANSSHIP_TOKEN": up.token}

    planned = transship(*words, "--dry-run", "--json", **there)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["inventory"]["fleet"]["tags"] == 4
    assert tags(new) == {}
    done = transship(*words, "--receipt", str(receipt), "-o", str(page), "--json", **there)
    assert done.returncode == 0, (done.stderr, done.stdout)
    push_image(old, "team/app", "v3")
    again = transship(*words, "--json", **there)

    found = json.loads(done.stdout)
    assert (found["state"], found["copies"]["copied"]) == ("succeeded", 4)
    assert found["migration"]["name"] == "old-to-new"
    assert [one["label"] for one in found["sections"]] == ["all"]
    assert {one.destination for one in Receipt(receipt)} == {f"new/moved/{name}" for name in NAMES}
    assert "Cut-over" in page.read_text()
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["copies"]["copied"] == 5
    assert tags(new) == {f"moved/{name}": at for name, at in tags(old).items()}
    for wrong in (["--on-conflict", "keep"], ["--local"]):
        assert refused(*words, *wrong)
