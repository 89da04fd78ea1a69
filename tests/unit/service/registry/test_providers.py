"""Which provider a registry is, and what is known of it."""

from __future__ import annotations

import pytest

from service.model.endpoint import RegistryEndpoint
from service.model.provider import CapabilityOverrides
from service.registry.providers.recognise import answered, configured
from service.registry.providers.strategies import OPENERS
from service.registry.providers.table import PROVIDERS


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("docker.io", "dockerhub"),
        ("registry-1.docker.io", "dockerhub"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn:443", "ecr"),
        ("123456789012.dkr-ecr.us-east-1.on.aws", "ecr"),
        ("public.ecr.aws", "ecr-public"),
        ("fleet.azurecr.io", "acr"),
        ("europe-west1-docker.pkg.dev", "gar"),
        ("eu.gcr.io", "gar"),
        ("registry.cn-hangzhou.aliyuncs.com", "aliyun-acr"),
        ("fleet-registry-vpc.cn-beijing.cr.aliyuncs.com", "aliyun-acr"),
        ("swr.cn-north-4.myhuaweicloud.com", "swr"),
        ("fleet.tencentcloudcr.com", "tcr"),
        ("hkccr.ccs.tencentyun.com", "ccr"),
        ("quay.io", "quay"),
        ("ghcr.io", "ghcr"),
        ("registry.gitlab.com", "gitlab"),
        ("fleet.jfrog.io", "jfrog"),
        ("fleet-cn-beijing.cr.volces.com", "volcengine"),
        ("registry.example", None),
        ("ghcr.io.evil.example", None),
        ("evilghcr.io", None),
        ("fleet.azurecr.io.evil.example", None),
        ("localhost:5000", None),
    ],
)
def test_host_name_tells_the_provider(host: str, name: str | None) -> None:
    found = configured(RegistryEndpoint("it", f"https://{host}"))

    assert (found.name if found else None) == name


def test_what_is_configured_goes_before_the_host() -> None:
    found = configured(RegistryEndpoint("it", "https://quay.io", provider="harbor"))

    assert found is PROVIDERS["harbor"]


def test_provider_of_a_later_version_is_any_registry() -> None:
    found = configured(RegistryEndpoint("it", "https://quay.io", provider="of-next-year"))

    assert found is PROVIDERS["generic"]


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (
            {
                "www-authenticate": 'Bearer realm="https://h.example/service/token",'
                'service="harbor-registry"'
            },
            "harbor",
        ),
        ({"www-authenticate": 'Basic realm="harbor"'}, "harbor"),
        (
            {
                "www-authenticate": 'Bearer realm="https://gitlab.example/jwt/auth",'
                'service="container_registry"'
            },
            "gitlab",
        ),
        (
            {"www-authenticate": 'Bearer realm="https://q.example/v2/auth",service="q.example"'},
            "quay",
        ),
        ({"x-jfrog-version": "Artifactory/7.90.1"}, "jfrog"),
        ({"docker-distribution-api-version": "registry/2.0"}, None),
        ({"www-authenticate": 'Basic realm="Registry Realm"'}, None),
        ({}, None),
    ],
)
def test_answer_tells_the_provider(headers: dict[str, str], name: str | None) -> None:
    found = answered(headers)

    assert (found.name if found else None) == name


def test_names_are_unique_and_no_host_belongs_to_two() -> None:
    hosts = [host for row in PROVIDERS.values() for host in row.hosts]

    assert len(hosts) == len(set(hosts))
    assert all(name == row.name for name, row in PROVIDERS.items())
    assert set(OPENERS) <= set(PROVIDERS)


def test_overrides_replace_what_they_say_and_nothing_else() -> None:
    row = PROVIDERS["ecr"].capabilities

    found = CapabilityOverrides(mount="no", chunk_minimum_bytes=0).on(row)

    assert (found.mount, found.chunk_minimum_bytes) == ("no", 0)
    assert (found.chunk_bytes, found.tag_delete) == (row.chunk_bytes, row.tag_delete)
