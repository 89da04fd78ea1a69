"""A registry's credentials: one, or several for its repositories."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import ValidationError, fields, validates_schema

from api.schemas.common import StrictSchema
from api.schemas.fields import Choice, Flag, Judged, Name, Text, Told, invalid, kind_of
from api.schemas.words import secret_variable
from service.errors import InvalidInput
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.reference import validate_repository

MOST = 50
_MASKS = frozenset("*•.xX")
_SOURCES = ("password", "password_env", "password_file", "secret", "docker_config", "keyless")
_WITHOUT_USER = ("docker_config", "keyless")
_ROLE = re.compile(r"arn:aws[a-z0-9-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)


def role_arn(text: str) -> str:
    """Return the ARN of a role; raises InvalidInput."""
    if not _ROLE.fullmatch(text):
        raise InvalidInput(
            f"{text[:80]!r} is not the ARN of a role", hint="as arn:aws:iam::123456789012:role/name"
        )
    return text


class Password(Text):
    """A password that comes in and never goes out; or what the API shows in its place."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(longest=8192, load_only=True, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, dict) and value.get("set") is True:
            return True
        return super()._deserialize(value, attr, data, **kwargs)

    def judge(self, value: str) -> str:
        """Refuse what stands for a hidden password."""
        if len(value) >= 3 and len(set(value)) == 1 and value[0] in _MASKS:
            raise invalid("this is a mask, not a password", 'keep a stored one by {"set": true}')
        return value


class CredentialsSchema(StrictSchema):
    """Where the credential comes from; none of the sources means anonymous."""

    username = Text(longest=256)
    password = Password()
    password_env = Judged(secret_variable, longest=128)
    password_file = Text()
    secret = Name()
    docker_config = Flag()
    keyless = Choice(
        "aliyun",
        "aws",
        "azure",
        "gcp",
        "volcengine",
        absent="use password_file or secret for others",
    )
    role = Judged(role_arn, longest=2048)
    external_id = Text()
    prefix = Judged(validate_repository, longest=255, data_key="for")

    @validates_schema
    def _one_source(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        given = [source for source in _SOURCES if data.get(source)]
        if len(given) > 1:
            raise invalid(f"has {' and '.join(given)}", "give one of them")
        alone = bool(given) and given[0] in _WITHOUT_USER
        if given and not alone and "username" not in data:
            raise ValidationError({"username": [Told("is missing", f"{given[0]} needs one")]})
        if "username" in data and alone:
            raise ValidationError(
                {"username": [Told(f"does not go with {given[0]}", "leave one of them out")]}
            )
        if "role" in data and data.get("keyless") != "aws":
            raise ValidationError({"role": [Told("goes with keyless: aws only")]})
        if "external_id" in data and "role" not in data:
            raise ValidationError({"external_id": [Told("is missing its role", "give role, too")]})
        if "username" in data and not given:
            raise invalid("has a username and no password", "give password_env or password_file")


class KeptPassword(Password):
    """In a file, which holds no secrets, only the sign that a stored password stays."""

    def judge(self, value: str) -> str:
        """Refuse every text."""
        del value
        raise invalid(
            "a file holds no secrets",
            'use password_env, password_file or secret; {"set": true} keeps a stored one',
        )


class FileCredentialsSchema(CredentialsSchema):
    """Credentials in a file, where a password has no place."""

    password = KeptPassword()


class Credentials(fields.Field[list[dict[str, Any]]]):
    """One credential as an object, or a list of several: read into a list."""

    def __init__(self, schema: type[CredentialsSchema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = schema
        self._one = fields.Nested(schema)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        del attr, data, kwargs
        if isinstance(value, dict):
            return [self._one.deserialize(value) or {}]
        if not isinstance(value, list):
            raise invalid(f"must be an object or a list of them, not {kind_of(value)}")
        if not 1 <= len(value) <= MOST:
            raise invalid(f"a list has 1 to {MOST} credentials, this one has {len(value)}")
        found: list[dict[str, Any]] = []
        wrong: dict[int, Any] = {}
        for place, item in enumerate(value):
            try:
                found.append(self._of_several(item))
            except ValidationError as error:
                wrong[place] = error.messages
        if wrong:
            raise ValidationError(wrong)
        return found

    def _of_several(self, item: Any) -> dict[str, Any]:
        read: dict[str, Any] = self._one.deserialize(item) or {}
        if "password" in read:
            hint = "store each as a secret, and name it here: transship secrets set"
            raise ValidationError({"password": [Told("has no place in a list", hint)]})
        return read


def made_of(
    documents: Sequence[Mapping[str, Any]],
) -> tuple[tuple[CredentialSpec, ...], Any]:
    """Return the credentials that were read, one at least, and the password: its text, or True to keep it."""
    password = None
    specs = []
    for document in documents or ({},):
        values = dict(document)
        password = values.pop("password", None)
        specs.append(CredentialSpec(**values, stored=password is not None))
    return tuple(specs), password


def effective_credentials(endpoint: RegistryEndpoint) -> dict[str, Any] | list[dict[str, Any]]:
    """Return a registry's credentials in the shape of the document; no secret is among them."""
    shown = [_shown(spec) for spec in endpoint.every_credential]
    return shown if len(shown) > 1 else shown[0]


def _shown(spec: CredentialSpec) -> dict[str, Any]:
    keys = ("username", "password_env", "password_file", "secret", "keyless", "role", "external_id")
    shown: dict[str, Any] = {key: value for key in keys if (value := getattr(spec, key))}
    if spec.docker_config:
        shown["docker_config"] = True
    if spec.prefix:
        shown["for"] = spec.prefix
    return shown
