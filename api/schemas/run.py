"""What a run of a rule by hand, or a retry, may be confined to."""

from __future__ import annotations

from typing import Any

from marshmallow import pre_load

from api.schemas.common import StrictSchema
from api.schemas.fields import Choice, Items, Judged
from service.errors import InvalidInput
from service.model.digest import Digest
from service.model.failure_classes import CLASSES
from service.model.reference import validate_repository, validate_tag


def taken_apart(text: str) -> tuple[str, str]:
    """Return repository and tag, or digest, of `repository:tag` or `repository@digest`.

    Raises InvalidInput saying what is wrong.
    """
    repository, at, digest = text.partition("@")
    if at:
        Digest.parse(digest)
        return validate_repository(repository), digest
    repository, colon, tag = text.rpartition(":")
    if not colon:
        raise InvalidInput(
            f"{text[:80]!r} names no tag", hint="write repository:tag or repository@digest"
        )
    return validate_repository(repository), validate_tag(tag)


def _reference(text: str) -> str:
    taken_apart(text)
    return text


class RunInputSchema(StrictSchema):
    """Nothing at all, or the source references that are to be looked at."""

    references = Items(
        Judged(_reference, longest=400),
        most=1000,
        least=1,
        data_key="only",
        metadata={"example": ["team/app:1.2"]},
    )


class RetryInputSchema(StrictSchema):
    """Nothing at all, or the classes of the failures that are to be tried again: a list, or one of them."""

    classes = Items(
        Choice(*CLASSES),
        most=len(CLASSES),
        least=1,
        data_key="class",
        metadata={"example": ["denied"]},
    )

    @pre_load
    def _one(self, data: Any, **kwargs: Any) -> Any:
        del kwargs
        if isinstance(data, dict) and isinstance(data.get("class"), str):
            return {**data, "class": [data["class"]]}
        return data
