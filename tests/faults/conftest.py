"""One lab for the scenarios of a module that leave its processes as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.lab import Lab, open_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
