from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.samples.registry import SampleRegistry
from service.registry.client import RegistryClient
from tests.integration.registry.support import client


@pytest.fixture
def east() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        yield registry


@pytest.fixture
def west() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        yield registry


@pytest.fixture
def source(east: SampleRegistry) -> Iterator[RegistryClient]:
    made = client(east.url, name="east")
    yield made
    made.close()


@pytest.fixture
def destination(west: SampleRegistry) -> Iterator[RegistryClient]:
    made = client(west.url, name="west")
    yield made
    made.close()
