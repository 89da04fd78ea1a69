"""Whether what goes at the source goes at the destinations too, and what is said of a deletion."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import fields, post_load

from api.schemas.common import StrictSchema
from api.schemas.fields import Duration, Flag, Text, invalid, seconds
from service.model.rule import DeletePolicy, NameFilter, Selection

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)%")
YEAR_SECONDS = 366 * 86400


class Percent(Text):
    """A share of 0% to 100%."""

    def judge(self, value: str) -> str:
        """Hold the value to the grammar and the bounds."""
        match = _PERCENT.fullmatch(value)
        if match is None or float(match[1]) > 100:
            raise invalid(f"{value[:40]!r} is not a share", 'write "10%", from 0% to 100%')
        return value


class DeleteSchema(StrictSchema):
    """Whether, how soon and how much at once is deleted."""

    enabled = Flag(required=True)
    grace = Duration(least=0, most=YEAR_SECONDS)
    cap = Percent()
    everything = Flag(data_key="all")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> DeletePolicy:
        del kwargs
        if "grace" in data:
            data["grace_seconds"] = seconds(data.pop("grace"))
        if "cap" in data:
            data["cap_percent"] = float(data.pop("cap").removesuffix("%"))
        return DeletePolicy(**data)


def effective_delete(policy: DeletePolicy) -> dict[str, Any]:
    """Return the policy in the shape of the document."""
    shown: dict[str, Any] = {
        "enabled": policy.enabled,
        "grace": f"{policy.grace_seconds:g}s",
        "cap": f"{policy.cap_percent:g}%",
    }
    return {**shown, "all": True} if policy.everything else shown


def takes_everything(selection: Selection) -> bool:
    """Whether an entry takes every repository that the source has."""
    names: NameFilter = selection.repositories
    if names.regex is not None:
        return False
    return not names.include or any(set(pattern) <= {"*", "/"} for pattern in names.include)


class DeletionTagSchema(StrictSchema):
    """One tag of a deletion."""

    source = fields.String(metadata={"example": "east/team/app:v1"})
    tag = fields.String(metadata={"description": "at the destination: REPOSITORY:TAG"})
    digest = fields.String()
    state = fields.String(metadata={"enum": ["pending", "deleted", "kept", "failed"]})
    failure_class = fields.String(data_key="class")
    reason = fields.String()
    hint = fields.String()


class DeletionSchema(StrictSchema):
    """What one run of a rule found gone at its source, at one destination."""

    id = fields.String()
    rule = fields.String()
    project = fields.String()
    execution = fields.String(metadata={"description": "the run that did not find them"})
    registry = fields.String()
    state = fields.String(
        metadata={"enum": ["looking", "checking", "waiting", "pending", "done", "cancelled"]}
    )
    tags = fields.Integer()
    of_tags = fields.Integer(metadata={"description": "the rule's tags at that destination"})
    reason = fields.String()
    due_at = fields.String(allow_none=True, metadata={"format": "date-time"})
    decided_by = fields.String(allow_none=True)
    decided_at = fields.String(allow_none=True, metadata={"format": "date-time"})
    created_at = fields.String(metadata={"format": "date-time"})
    finished_at = fields.String(allow_none=True, metadata={"format": "date-time"})


class DeletionPageSchema(StrictSchema):
    """A page of deletions."""

    items = fields.List(fields.Nested(DeletionSchema))
    next = fields.String(allow_none=True)


class DeletionTagPageSchema(StrictSchema):
    """A page of the tags of a deletion."""

    items = fields.List(fields.Nested(DeletionTagSchema))
    next = fields.String(allow_none=True)
