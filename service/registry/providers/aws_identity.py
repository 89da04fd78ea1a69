"""The machine's own AWS identity, by botocore's default chain (`transship[aws]`).

Environment, shared files, web identity (IRSA), ECS and EKS containers, the instance's metadata service, in
botocore's order; what ends is renewed by botocore, over connections of its own. A role is assumed with that
identity by STS's AssumeRole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from service.errors import AuthenticationFailed, InvalidConfiguration
from service.registry.providers.access_key import AccessKey
from service.registry.redaction import clean

SESSION = "transship"
"""The RoleSessionName, which AWS's logs show."""


class Role(NamedTuple):
    """A role that the machine assumes; `external_id` is what its owner has given for that, if anything."""

    arn: str
    external_id: str | None = None


def machine_keys(
    registry: str, role: Role | None = None, region: str | None = None
) -> Callable[[], AccessKey]:
    """Return what tells the key that holds now: the machine's, or of a role that it assumes.

    `region` is whose STS is asked where AWS's own configuration names none. Raises InvalidConfiguration
    where there is no identity, and AuthenticationFailed where the role may not be assumed.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session
    except ImportError:
        raise InvalidConfiguration(
            f"the machine's AWS identity for {registry} needs botocore, which is not installed",
            field="credentials.keyless",
            hint="install transship[aws] where workers run",
        ) from None

    def refused(why: str) -> InvalidConfiguration:
        return InvalidConfiguration(
            f"this machine has no AWS identity for {registry}{why}",
            field="credentials.keyless",
            hint="give the worker a role, or the variables and files that AWS tools read",
        )

    try:
        session = Session()
        found = session.get_credentials()
    except BotoCoreError as error:
        raise refused(f": {type(error).__name__}") from error
    if found is None:
        raise refused("")
    if role is not None:
        found = _assumed(session, found, role, region)

    def current() -> AccessKey:
        try:
            frozen = found.get_frozen_credentials()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise AuthenticationFailed(
                f"{registry}: STS does not let this machine assume {role.arn if role else 'a role'}: "
                f"{clean(code, 80)}",
                registry=registry,
                hint="the role's trust policy names who may, and with which external id",
            ) from error
        except BotoCoreError as error:
            raise refused(f": {type(error).__name__}") from error
        return AccessKey(frozen.access_key, frozen.secret_key, frozen.token or "")

    return current


def _assumed(session: Any, own: Any, role: Role, region: str | None) -> Any:
    """Return credentials of a role, got by STS when they are first asked for and before they end."""
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    def client(service: str, **options: Any) -> Any:
        region_name = session.get_config_variable("region") or region
        return session.create_client(service, region_name=region_name, **options)

    extra = {"RoleSessionName": SESSION}
    if role.external_id is not None:
        extra["ExternalId"] = role.external_id
    fetcher = AssumeRoleCredentialFetcher(client, own, role.arn, extra_args=extra)
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
