"""Tests of providers by contract: `pytest -m contract` runs all, `-k contract:harbor` those of one provider."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from api.samples.registry import SampleRegistry
from service.registry.client import RegistryClient
from service.registry.providers.strategies import OPENERS
from service.registry.providers.table import GENERIC, PROVIDERS
from tests.contract.leaks import Watch, watching
from tests.contract.quirks import quirky
from tests.integration.registry.support import client
from tests.support.fault_proxy import FaultProxy

HERE = Path(__file__).parent
PARAMETERS = ("provider", "cloud", "source")  # of tests that many fakes share


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and let them be called by their provider."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.contract)
            names = {item.path.stem.removeprefix("test_").replace("_", "-")}
            if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
                params = item.callspec.params
                names |= {str(params[key]) for key in PARAMETERS if key in params}
            item.extra_keyword_matches |= {f"contract:{name}" for name in names}


@pytest.fixture(autouse=True)
def as_generic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every provider for a generic one where CONTRACT_AS_GENERIC is set: a claim of its own has to fail then."""
    if os.environ.get("CONTRACT_AS_GENERIC"):
        for name, row in PROVIDERS.items():
            generic = replace(GENERIC, name=name, hosts=row.hosts)
            monkeypatch.setitem(PROVIDERS, name, generic)
            monkeypatch.delitem(OPENERS, name, raising=False)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    """What all servers of a test are asked; at its end none has seen a credential that is not for it."""
    with watching() as made:
        yield made
    assert made.leaks() == []


@pytest.fixture(scope="module")
def moto_server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto(moto_server: str, watch: Watch) -> Iterator[str]:
    """moto's AWS, one for a module, behind a proxy whose requests are searched as a fake's are."""
    del watch
    with FaultProxy(moto_server) as proxy:
        yield proxy.url


@pytest.fixture
def registry(request: pytest.FixtureRequest) -> Iterator[SampleRegistry]:
    """The registry with the quirk that the test is named after."""
    with quirky(request.node.originalname.removeprefix("test_quirk_")) as made:
        yield made


@pytest.fixture
def ours(registry: SampleRegistry) -> Iterator[RegistryClient]:
    made = client(registry.url)
    yield made
    made.close()


@pytest.fixture
def naive(registry: SampleRegistry) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=registry.url, trust_env=False, timeout=10) as made:
        yield made
