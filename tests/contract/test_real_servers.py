"""contract:distribution. Rules between programs that others have written: distribution 2.8.2 and 3, crane's registry.

Debian has the first; the others are Go programs, which `python -m bench.peers_install registry3 crane` builds into
`.bench/bin` of a checkout (.ci/run does).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import pytest

from bench.peers_install import find
from service import errors
from service.model.digest import Digest
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.manifest import Manifest
from service.model.states import ExecutionState
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import MOUNTED, UploadSession
from tests.contract.leaks import Secret, Watch
from tests.contract.stands import stand
from tests.integration.registry.support import blob, client, image, push
from tests.support.fault_proxy import FaultProxy
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


USER, PASSWORD = "mover", "real-s3cret"
HTPASSWD = f"{USER}:$2a$05$CCCCCCCCCCCCCCCCCCCCC.BpzXjXz8QXIK8lYovjUHb3XfBXVtXQO\n"


class Doorman(FaultProxy):
    """Stands before a program of others and keeps what that is asked: the search for credentials reads it."""

    def secrets(self) -> list[Secret]:
        """The one that its registry was given."""
        return [Secret(PASSWORD, frozenset({self.host}), (USER,))]


@contextmanager
def running(real: Real, folder: Path) -> Iterator[str]:
    """Start a program behind a doorman; yield its URL. Distribution asks for the credentials."""
    program = find(real.program)
    if program is None:
        pytest.skip(f"{real.program} is not installed")
    with ExitStack() as stack:
        started: CraneRegistry | RealRegistry
        if real.name == "crane":
            started = CraneRegistry(program, folder)
        else:
            users = folder / "htpasswd"
            users.write_text(HTPASSWD)
            auth = {"htpasswd": {"realm": real.name, "path": str(users)}}
            started = RealRegistry(program=program, configuration={"auth": auth})
        url = stack.enter_context(started).url
        yield stack.enter_context(Doorman(url)).url


def endpoint(name: str, url: str, folder: Path) -> RegistryEndpoint:
    """The registry of a program, as a user configures it."""
    file = folder / "real.secret"
    file.write_text(PASSWORD)
    spec = CredentialSpec(USER, password_file=str(file))
    return RegistryEndpoint(name, url, credentials=spec)


@pytest.fixture(params=REAL, ids=[real.name for real in REAL])
def real(request: pytest.FixtureRequest) -> Real:
    found: Real = request.param
    return found


@pytest.fixture
def there(real: Real, tmp_path: Path) -> Iterator[RegistryClient]:
    with running(real, tmp_path) as url:
        made = client(url, name=real.name, credential=Credential(USER, PASSWORD))
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
        running(REAL[0], tmp_path) as first,
        running(real, tmp_path) as url,
        running(REAL[0], tmp_path) as last,
        open_world(tmp_path) as world,
    ):
        clients = []
        for name, at in (("first", first), ("middle", url), ("last", last)):
            world.services.registries.put(endpoint(name, at, tmp_path), document={})
            clients.append(client(at, name=name, credential=Credential(USER, PASSWORD)))
        begin, middle, end = clients
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


def test_credentials_of_others_do_not_reach_it_nor_its_own_others(
    real: Real, tmp_path: Path, watch: Watch
) -> None:
    """From a cloud's registry, which has a token service and a host of blobs, to it and on to another cloud's."""
    with (
        stand("acr") as source,
        running(real, tmp_path) as url,
        stand("ecr") as sink,
        open_world(tmp_path) as world,
    ):
        for one in (
            source.endpoint(tmp_path),
            endpoint("it", url, tmp_path),
            sink.endpoint(tmp_path),
        ):
            world.services.registries.put(one, document={})
        pushed = push(source.client(), source.repository(), "v1", some_bytes("acr", MIB))

        copied(world, "acr", "{repository}", "it")
        copied(world, "it", sink.repository("{name}"), "ecr")

        assert digests(sink.client(), sink.repository()) == {"v1": pushed.digest}
        assert watch.leaks() == []
        asked = {one.authority: 0 for one in watch.asked}
        for one in watch.asked:
            asked[one.authority] += "authorization" in one.headers
        assert {one: asked[one] > 0 for one in (source.registry.host, urlsplit(url).netloc)} == {
            source.registry.host: True,
            urlsplit(url).netloc: real.name != "crane",
        }, "each was shown what is its own"


def test_credential_that_reaches_it_is_found(real: Real, tmp_path: Path, watch: Watch) -> None:
    with stand("acr") as other, running(real, tmp_path) as url:
        given = (other.credential.username, other.credential.password)
        httpx.get(f"{url}/v2/", auth=given, trust_env=False)

        assert [one.split(" ")[0] for one in watch.leaks()] == [urlsplit(url).netloc]
    watch.forget()


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
