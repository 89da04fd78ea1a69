"""A real source registry with the large sample fleet, pushed once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.samples.fleet import FleetSummary, push_fleet
from api.samples.fleet_plan import FleetSpec
from tests.oracle.closure import Place
from tests.support.promoting import SECRET
from tests.support.servers import RealRegistry
from tests.support.signing import Signer
from tests.support.source_log import RequestCost
from tests.support.up import Up, running_up


@dataclass
class Source:
    """The source registry and what is in it."""

    registry: RealRegistry
    fleet: FleetSummary

    @property
    def url(self) -> str:
        return self.registry.url

    def expected(self, prefix: str = "mirror/") -> dict[Place, Place]:
        """Every tag of the fleet and where the rule of write_rules puts it."""
        return {
            (repository, tag): (prefix + repository, tag)
            for repository, tag in self.fleet.tag_digests
        }

    def cost(self) -> RequestCost:
        """What was asked of it since the log was cleared."""
        return RequestCost.of(self.registry.access_log())


@pytest.fixture(scope="session")
def loaded() -> Iterator[Source]:
    with RealRegistry() as registry:
        yield Source(registry, push_fleet(registry.url, FleetSpec()))


@pytest.fixture
def source(loaded: Source) -> Source:
    loaded.registry.clear_access_log()
    return loaded


@pytest.fixture
def destination() -> Iterator[RealRegistry]:
    with RealRegistry() as registry:
        yield registry


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


DEV, PROD = ("builder", "the password of development"), ("deployer", "another one of production")
"""The accounts of two private registries, whose passwords `flowing` has."""


@pytest.fixture(scope="session")
def signer() -> Signer:
    """Whose public key is `cosign.pub` in the folder of secrets of `flowing`."""
    return Signer()


@pytest.fixture(scope="module")
def flowing(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Iterator[Up]:
    """One service for the tests of pipelines of a file."""
    folder = tmp_path_factory.mktemp("flowing")
    (folder / "cosign.pub").write_text(signer.public)
    variables = {
        "TRANSSHIP_SECRETS_DIR": str(folder),
        "TRANSSHIP_SECRET_DEV": DEV[1],
        "TRANSSHIP_SECRET_PROD": PROD[1],
        "TRANSSHIP_SECRET_SHOP": SECRET,
    }
    with running_up(folder / "up", **variables) as running:
        yield running
