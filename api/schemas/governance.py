"""Projects, secrets, webhooks, tokens: their documents as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from marshmallow import fields, post_load

from api.schemas.common import StrictSchema, load
from api.schemas.fields import Choice, Duration, Flag, Items, Judged, Name, Text, invalid, kind_of
from service.errors import InvalidInput
from service.model.glob import compile_glob
from service.model.project import Grant, Project
from service.model.reference import validate_host
from service.model.subscription import EVENT_TYPES, Subscription
from service.store.tokens import AGENT_ROLE, ROLES

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_MASKS = frozenset("*•.xX")


class Grants(fields.Field[tuple[Grant, ...]]):
    """Globs of repositories by registry."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._globs = Items(Judged(compile_glob), most=1000, least=1)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Grant, ...]:
        del kwargs
        if not isinstance(value, dict):
            raise invalid(
                f"must be an object of registries, not {kind_of(value)}",
                'write {east: ["team-a/**"]}',
            )
        grants = []
        for registry, globs in value.items():
            if not isinstance(registry, str) or not _NAME.fullmatch(registry):
                raise invalid(f"{str(registry)[:80]!r} is no name of a registry")
            found: list[Any] = self._globs.deserialize(globs, attr, data) or []
            grants.append(Grant(registry, tuple(found)))
        return tuple(grants)


class ProjectSchema(StrictSchema):
    """What rules of a project may read and write; what is left out, they may not."""

    name = Name(required=True)
    read = Grants(metadata={"example": {"east": ["team-a/**"]}})
    write = Grants(metadata={"example": {"west": ["mirror/team-a/**"]}})

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Project:
        del kwargs
        return Project(data["name"], data.get("read", ()), data.get("write", ()))


def load_project(document: Any) -> Project:
    """Read a project's document; raises InvalidFields."""
    loaded: Project = load(ProjectSchema(), document)
    return loaded


def effective_project(project: Project) -> dict[str, Any]:
    """Return the project with every default filled in, in the shape of the document."""
    if project.everything:
        return {"name": project.name, "everything": True}
    return {
        "name": project.name,
        "read": {grant.registry: list(grant.repositories) for grant in project.read},
        "write": {grant.registry: list(grant.repositories) for grant in project.write},
    }


class SecretValue(Text):
    """A secret that comes in and never goes out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(longest=65536, load_only=True, **kwargs)

    def judge(self, value: str) -> str:
        """Refuse what stands for a hidden secret."""
        if len(value) >= 3 and len(set(value)) == 1 and value[0] in _MASKS:
            raise invalid("this is a mask, not a secret", "leave the value out to keep it")
        return value


class NewSecretSchema(StrictSchema):
    """A secret, and the hosts that may receive it; without a value, the hosts become fewer."""

    name = Name(required=True)
    value = SecretValue()
    hosts = Items(Judged(validate_host, longest=261), most=100, least=1, required=True)


def webhook_url(text: str) -> str:
    """Return an http(s) URL without user information and fragment; raises InvalidInput."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{text[:80]!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or "\\" in text or " " in text:
        raise InvalidInput(f"{text[:80]!r} is not an https:// URL")
    if "@" in parts.netloc:
        raise InvalidInput("a URL may hold no user name or password", hint="use the secret")
    if parts.fragment or port == 0 or not text.isascii():
        raise InvalidInput(f"{text[:80]!r} is not a URL that can be posted to")
    return text


def _event(text: str) -> str:
    kinds = {name.partition(".")[0] for name in EVENT_TYPES}
    if text in EVENT_TYPES or text in {"*", *(f"{kind}.*" for kind in kinds)}:
        return text
    raise InvalidInput(
        f"{text[:80]!r} is no event",
        hint=f"there are *, {', '.join(sorted(f'{kind}.*' for kind in kinds))} and "
        f"{', '.join(EVENT_TYPES)}",
    )


class WebhookSchema(StrictSchema):
    """Where outcomes are posted to: CloudEvents 1.0 as JSON, signed with the secret."""

    name = Name(required=True)
    url = Judged(webhook_url, longest=2048, required=True)
    events = Items(Judged(_event, longest=64), most=50, least=1, required=True)
    kept = Choice("failures", data_key="only")
    rules = Items(Name(), most=1000, least=1)
    projects = Items(Name(), most=1000, least=1)
    project = Name()
    enabled = Flag()
    secret = SecretValue()

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> tuple[Subscription, str | None]:
        del kwargs
        secret = data.pop("secret", None)
        data["only_failures"] = data.pop("kept", None) == "failures"
        for key in ("events", "rules", "projects"):
            if key in data:
                data[key] = tuple(dict.fromkeys(data[key]))
        return Subscription(**data), secret


def load_webhook(document: Any) -> tuple[Subscription, str | None]:
    """Read a webhook's document: what it wants, and the secret if it came along."""
    loaded: tuple[Subscription, str | None] = load(WebhookSchema(), document)
    return loaded


def effective_webhook(wanted: Subscription) -> dict[str, Any]:
    """Return the webhook with every default filled in, in the shape of the document."""
    shown: dict[str, Any] = {
        "name": wanted.name,
        "url": wanted.url,
        "events": list(wanted.events),
        "enabled": wanted.enabled,
    }
    if wanted.only_failures:
        shown["only"] = "failures"
    if wanted.project is not None:
        shown["project"] = wanted.project
    for key, names in (("rules", wanted.rules), ("projects", wanted.projects)):
        if names:
            shown[key] = list(names)
    return shown


class NewTokenSchema(StrictSchema):
    """A token to be made; with a project it sees and touches that project only.

    One of role agent is for a region's own workers: it needs the region, and has no project.
    """

    name = Name(required=True)
    role = Choice(*ROLES, AGENT_ROLE, required=True)
    project = Name()
    region = Name()
    expires_in = Duration(least=60, most=3660 * 86400)
