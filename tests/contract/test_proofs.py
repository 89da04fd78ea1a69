"""contract:proofs. Each *yes* of the table of providers holds at its fake, and fails without what the provider has."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import errors
from service.registry.providers.table import GENERIC, PROVIDERS
from tests.contract import claims, lies, proofs
from tests.contract.leaks import Watch
from tests.contract.stands import STANDS, stand

ROOT = Path(__file__).parents[2]
CLAIMS = [one for one in claims.claims() if one not in claims.ELSEWHERE and one[1] in proofs.OF]
GENERIC_CLAIMS = [one for one in CLAIMS if not claims.is_own(*one)]


@pytest.mark.parametrize(("provider", "column"), CLAIMS, ids=[f"{p}-{c}" for p, c in CLAIMS])
def test_yes_is_proven(provider: str, column: str) -> None:
    with stand(provider) as made:
        proofs.OF[column](made, provider)


@pytest.mark.parametrize(("provider", "column"), CLAIMS, ids=[f"{p}-{c}" for p, c in CLAIMS])
def test_generic_fails_where_the_provider_has_its_own_way_only(
    provider: str, column: str, watch: Watch
) -> None:
    with stand(provider) as made:
        if not claims.is_own(provider, column):
            proofs.OF[column](made, GENERIC.name)
            return
        with pytest.raises((AssertionError, errors.RegistryError, pytest.fail.Exception)):
            proofs.OF[column](made, GENERIC.name)
        if column == "auth":
            watch.forget()  # a generic registry is shown the configured secret as it is: an access key's, too


@pytest.mark.parametrize(("provider", "column"), GENERIC_CLAIMS)
def test_server_that_only_says_yes_is_not_enough(provider: str, column: str) -> None:
    with stand(provider) as made:
        lie = lies.OF[column](made)
        with pytest.raises((AssertionError, errors.RegistryError)):
            proofs.OF[column](made, provider)
        assert lie.fired


def test_every_row_that_was_run_against_a_contract_has_a_stand_and_proofs() -> None:
    contracts = {name for name, _ in claims.claims()}
    indexes = {row.name for row in PROVIDERS.values() if row.index}  # nothing is pushed into one
    assert contracts - indexes == set(STANDS)
    columns = {one[1] for one in claims.claims() if one not in claims.ELSEWHERE}
    assert columns - {"events"} == set(proofs.OF)  # those have tests at a running service
    assert {column for _, column in GENERIC_CLAIMS} <= set(lies.OF)


def test_what_is_said_to_be_the_providers_own_is_a_yes() -> None:
    told = {(provider, column) for provider in claims.OWN for column in claims.OWN[provider]}
    assert told <= set(claims.claims())
    assert set(claims.ELSEWHERE) <= told


def test_tests_of_another_shape_are_there() -> None:
    for node in [
        *claims.ELSEWHERE.values(),
        *claims.AT_REAL_SERVERS.values(),
        claims.HOOKS,
    ]:
        file, _, name = node.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, node


def test_every_yes_of_real_servers_has_a_test_at_them() -> None:
    for row in PROVIDERS.values():
        if row.proof == "real servers":
            assert set(claims.yes_of(row)) <= set(claims.AT_REAL_SERVERS)


def test_every_row_was_run_against_something() -> None:
    assert [row.name for row in PROVIDERS.values() if row.proof == "nothing yet"] == []


@pytest.mark.timeout(180)
def test_claims_of_another_shape_fail_as_generic() -> None:
    nodes = sorted(set(claims.ELSEWHERE.values()))
    words = ("-q", "-rA", "-n", "0", "-p", "no:cacheprovider", "--timeout", "60")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *nodes],
        cwd=ROOT,
        env={**os.environ, "CONTRACT_AS_GENERIC": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )

    told = [line.split(" ")[:2] for line in done.stdout.splitlines()]
    outcomes = {
        node: {line[0] for line in told if len(line) == 2 and line[1].partition("[")[0] == node}
        for node in nodes
    }
    assert outcomes == {node: {"FAILED"} for node in nodes}, done.stdout[-5000:]
