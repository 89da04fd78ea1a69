"""contract:distribution. Rules between programs that others have written: distribution 2.8.2 and 3, crane's registry.

Debian has the first; the others are Go programs, which `python -m bench.peers_install registry3 crane` builds into
`.bench/bin` of a checkout (.ci/run does).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from bench.peers_install import find
from service import errors
from service.model.digest import Digest
from service.model.endpoint import RegistryEndpoint
from service.model.manifest import Manifest
from service.model.states import ExecutionState
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import MOUNTED, UploadSession
from tests.integration.registry.support import blob, client, image, push
from tests.support.planning import finish, mirror, plan
from tests.support.processes import ManagedProcess, free_port
from tests.support.servers import RealRegistry
from tests.support.world import World, open_world, some_bytes

MIB = 1 << 20


class CraneRegistry:
    """`crane registry serve`: go-containerregistry's registry, in memory."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = ManagedProcess(
            "crane",
            [program, "registry", "serve", "--address", f"127.0.0.1:{self.port}"],
            log_directory=folder,
            environment={**os.environ, "PORT": str(self.port)},
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._process.wait_ready(self.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def ready(self) -> bool:
        """Whether it answers."""
        made = client(self.url)
        try:
            made.ping()
        except errors.RegistryError:
            return False
        finally:
            made.close()
        return True


@dataclass(frozen=True)
class Real:
    """What a program does, as seen at it."""

    name: str
    program: str
    mounts: bool
    referrers: bool
    deletes_tags: bool


REAL = (
    Real("distribution-2", "docker-registry", mounts=True, referrers=False, deletes_tags=False),
    Real("distribution-3", "registry3", mounts=True, referrers=False, deletes_tags=True),
    Real("crane", "crane", mounts=False, referrers=False, deletes_tags=True),
)


@contextmanager
def running(real: Real, folder: Path) -> Iterator[str]:
    """Start a program; yield its URL."""
    program = find(real.program)
    if program is None:
        pytest.skip(f"{real.program} is not installed")
    if real.name == "crane":
        with CraneRegistry(program, folder) as crane:
            yield crane.url
    else:
        with RealRegistry(program=program) as registry:
            yield registry.url


@pytest.fixture(params=REAL, ids=[real.name for real in REAL])
def real(request: pytest.FixtureRequest) -> Real:
    found: Real = request.param
    return found


@pytest.fixture
def there(real: Real, tmp_path: Path) -> Iterator[RegistryClient]:
    with running(real, tmp_path) as url:
        made = client(url, name=real.name)
        yield made
        made.close()


def sign(registry: RegistryClient, repository: str, subject: Manifest) -> Manifest:
    """Attach a small artifact to an image, by its subject."""
    described = {
        "mediaType": subject.media_type,
        "digest": str(subject.digest),
        "size": subject.size,
    }
    signature, (config, descriptor) = image(
        subject=described, artifactType="application/vnd.example.signature"
    )
    registry.put_blob(repository, descriptor.digest, config)
    registry.put_manifest(repository, str(signature.digest), signature)
    return signature


def signature_tag(signed: Manifest) -> str:
    """The tag under which cosign keeps the signatures of an image."""
    return f"{str(signed.digest).replace(':', '-')}.sig"


def copied(world: World, source: str, to: str, destination: str) -> None:
    """Run a rule over the fleet of `source`."""
    rule = mirror("**", to=to, source=source, registry=destination, name=f"to-{destination}")
    execution = plan(world, rule)
    assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)


def digests(registry: RegistryClient, repository: str) -> dict[str, Digest]:
    """Tags and what they point at."""
    found = {}
    for page in registry.list_tags(repository):
        for tag in page.tags:
            head = registry.head_manifest(repository, tag)
            assert head is not None
            found[tag] = head.digest
    return found


def test_rule_goes_from_2_8_to_it_and_back(real: Real, tmp_path: Path) -> None:
    with (
        RealRegistry() as first,
        running(real, tmp_path) as url,
        RealRegistry() as last,
        open_world(tmp_path) as world,
    ):
        for name, at in (("first", first.url), ("middle", url), ("last", last.url)):
            world.services.registries.put(RegistryEndpoint(name, at), document={})
        begin, middle, end = client(first.url), client(url), client(last.url)
        shared = some_bytes("shared", 3 * MIB)
        for name in ("app", "lib"):
            for number in range(3):
                pushed = push(begin, f"team/{name}", f"v{number}", shared, name.encode() * number)
            push(begin, f"team/{name}", signature_tag(pushed), b"signature")

        copied(world, "first", "mirror/{repository}", "middle")
        copied(world, "middle", "{repository}", "last")

        for name in ("team/app", "team/lib"):
            fleet = digests(begin, name)
            assert len(fleet) == 4
            assert digests(middle, f"mirror/{name}") == fleet
            assert digests(end, f"mirror/{name}") == fleet
        layer = Digest.of(shared)
        assert end.read_blob("mirror/team/lib", layer, len(shared), len(shared)) == shared


def test_blob_is_mounted_from_a_sibling_or_its_session_is_used(
    real: Real, there: RegistryClient
) -> None:
    data, descriptor = blob(MIB)
    there.put_blob("team/one", descriptor.digest, data)

    found = there.mount_blob("team/two", descriptor.digest, "team/one")

    if real.mounts:
        assert found is MOUNTED
    else:
        assert isinstance(found, UploadSession), "202: it is an upload like any other"
        copy_blob(there, "team/one", there, "team/two", descriptor, session=found)
    assert there.probe_blob("team/two", descriptor.digest, MIB)


def test_tag_is_deleted_and_its_sibling_stays_or_it_is_refused(
    real: Real, there: RegistryClient
) -> None:
    pushed = push(there, "team/app", "v1", b"one")
    there.put_manifest("team/app", "v2", pushed)

    if real.deletes_tags:
        there.delete_manifest("team/app", "v1")
        assert digests(there, "team/app") == {"v2": pushed.digest}
    else:
        with pytest.raises(errors.Unsupported):
            there.delete_manifest("team/app", "v1")
        assert set(digests(there, "team/app")) == {"v1", "v2"}


def test_referrers_are_listed_or_told_to_be_unknown(real: Real, there: RegistryClient) -> None:
    pushed = push(there, "team/app", "v1", b"one")
    signature = sign(there, "team/app", pushed)

    found = there.referrers("team/app", pushed.digest)

    if real.referrers:
        assert found is not None
        assert [one.digest for one in found] == [signature.digest]
    else:
        assert found is None


def test_repositories_are_listed(there: RegistryClient) -> None:
    for name in ("team/app", "team/lib"):
        push(there, name, "v1", name.encode())

    pages = list(there.list_repositories())

    found = [name for page in pages for name in page.repositories]
    assert sorted(found) == ["team/app", "team/lib"]  # crane lists them in any order
