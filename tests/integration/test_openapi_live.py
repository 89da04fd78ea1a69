"""The live service, called with what its OpenAPI document allows, and with what it does not.

Schemathesis makes the calls; a failure prints how to repeat it, the seed with it. SCHEMATHESIS_EXAMPLES
raises the number of examples of each operation.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import CHECKS, load_all_checks

from api.app import create_app
from api.openapi import openapi_document
from service.bootstrap import Services
from service.settings import Settings
from tests.support.api_process import ApiProcess

SEED = int(os.environ.get("SCHEMATHESIS_SEED", random.SystemRandom().randrange(2**32)))
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "12"))
load_all_checks()
WANTED = (
    "not_a_server_error",
    "response_schema_conformance",
    "content_type_conformance",
    "status_code_conformance",
)
document: dict[str, Any] = openapi_document(create_app(Services(Settings())))
document["paths"] = {
    path: item for path, item in document["paths"].items() if not path.startswith("/hooks/")
}
schema = schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    made = ApiProcess(folder, api_requests_per_second=100_000.0)
    with made.process:
        made.process.wait_ready(made.ready)
        made.run()  # two registries, a rule, an execution are there
        yield made
    made.services.close()


@schema.parametrize()
@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_live_service_keeps_to_its_document(case: schemathesis.Case, server: ApiProcess) -> None:
    print(f"seed {SEED}")
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.port}",
        headers={"Authorization": f"Bearer {server.token}"},
        checks=[CHECKS.get_one(name) for name in WANTED],
        timeout=30,
    )


def test_service_lives_on_after_all_that(server: ApiProcess, tmp_path: Path) -> None:
    assert server.ready()
    assert server.services.audit.verify().broken is None
