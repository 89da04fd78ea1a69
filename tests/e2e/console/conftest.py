"""One service, one browser and two registries for each file of tests: an idle one costs a lane 8 % of a core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from api.samples.registry import SampleRegistry
from tests.support.browser import Console, chromium, console_of
from tests.support.up import Up, running_up


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("console"), TRANSSHIP_RETRY_SECONDS="0.05") as running:
        yield running


@pytest.fixture(scope="module")
def east() -> Iterator[SampleRegistry]:
    with SampleRegistry() as made:
        yield made


@pytest.fixture(scope="module")
def west() -> Iterator[SampleRegistry]:
    with SampleRegistry() as made:
        yield made


@pytest.fixture
def console(browser: Browser, up: Up) -> Iterator[Console]:
    """A tab that is signed in as admin."""
    with console_of(browser, up.url, viewport={"width": 1280, "height": 900}) as made:
        made.sign_in(up.token)
        yield made
