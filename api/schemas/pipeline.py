"""Pipelines as people write them: stages, gates, what is told afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marshmallow import fields, post_load, validates_schema

from api.schemas.common import StrictSchema, load
from api.schemas.fields import (
    Choice,
    Duration,
    Flag,
    Items,
    Judged,
    Name,
    Text,
    Whole,
    invalid,
    seconds,
)
from api.schemas.governance import SecretValue, webhook_url
from api.schemas.requirement import ReadKey, SignatureSchema, read_key_here
from api.schemas.words import secret_variable
from service.errors import FieldProblem, InvalidFields, InvalidInput
from service.model.glob import compile_glob
from service.model.mapping import placeholders
from service.model.pipeline import (
    APPROVAL,
    GATES,
    MAX_APPROVALS,
    MAX_GATES,
    MAX_STAGES,
    SCAN,
    SEVERITIES,
    SIGNATURE,
    WEBHOOK,
    Gate,
    Pipeline,
    Stage,
)
from service.model.public_key import is_pem

LONGEST_TIMEOUT = 30 * 86400
_TIMEOUTS = {APPROVAL: 86400.0, WEBHOOK: 3600.0, SIGNATURE: 3600.0, SCAN: 3600.0}
LEAST_SECRET = 16
SIGNS_HERE = (
    "the stored secret that signs here in place of the pipeline's, bound to the webhook's host"
)
MASK = {"set": True}
"""What stands in the place of a stored secret: it stays."""


class ApprovalSchema(StrictSchema):
    """Who has to agree: so many tokens of this role or a higher one."""

    role = Choice("operator", "admin")
    count = Whole(least=1, most=MAX_APPROVALS)
    own = Flag(metadata={"description": "whether who asked may be one of them"})


class ScanSchema(StrictSchema):
    """A scan's result, told by a signed webhook."""

    worst = Choice(*SEVERITIES)
    webhook = Judged(webhook_url, longest=2048)


class GateSchema(StrictSchema):
    """One thing that has to agree; what has not within `timeout` has not."""

    approval = fields.Nested(ApprovalSchema)
    webhook = Judged(webhook_url, longest=2048)
    signature = fields.Nested(SignatureSchema)
    scan = fields.Nested(ScanSchema)
    timeout = Duration(least=1, most=LONGEST_TIMEOUT)
    secret = Name(metadata={"description": SIGNS_HERE})

    @validates_schema
    def _one(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if len(data.keys() & set(GATES)) != 1:
            raise invalid(f"needs one of {', '.join(GATES)}", "write one gate for each")
        if "secret" in data and not data.keys() & {WEBHOOK, SCAN}:
            raise invalid("only a webhook or a scan has a secret", "leave it out")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Gate:
        del kwargs
        kind = next(iter(data.keys() & set(GATES)))
        found = data[kind]
        timeout = seconds(data["timeout"]) if "timeout" in data else _TIMEOUTS[kind]
        secret = data.get("secret", "")
        if kind == APPROVAL:
            return Gate(kind, timeout_seconds=timeout, **found)
        if kind == SIGNATURE:
            return Gate(kind, key=found, timeout_seconds=timeout)
        if kind == SCAN:
            return Gate(
                kind,
                worst=found.get("worst", SEVERITIES[0]),
                url=found.get("webhook", ""),
                timeout_seconds=timeout,
                secret=secret,
            )
        return Gate(kind, url=found, timeout_seconds=timeout, secret=secret)


class AfterSchema(StrictSchema):
    """Who is told when an image is whole at a stage."""

    webhook = Judged(webhook_url, longest=2048, required=True)
    secret = Name(metadata={"description": SIGNS_HERE})


class StageSchema(StrictSchema):
    """A place of the pipeline: of the first one globs of what enters, of the others templates of names."""

    name = Name(required=True)
    registry = Name(required=True)
    repository = Text(longest=512, metadata={"example": "shop/{name}"})
    tag = Text(longest=512, metadata={"example": "{tag}"})
    gates = Items(fields.Nested(GateSchema), most=MAX_GATES)
    after = fields.Nested(AfterSchema)
    auto = Flag(metadata={"description": "whether what is at the stage before comes by itself"})

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Stage:
        del kwargs
        after = data.pop("after", {})
        data["gates"] = tuple(data.get("gates", ()))
        return Stage(
            after_url=after.get("webhook", ""), after_secret=after.get("secret", ""), **data
        )


class PipelineSchema(StrictSchema):
    """Stages in their order. What it posts is signed with its secret, and answers have to be."""

    name = Name(required=True)
    project = Name()
    stages = Items(fields.Nested(StageSchema), most=MAX_STAGES, least=2, required=True)
    secret = SecretValue()
    secret_env = Judged(secret_variable, longest=128)

    @validates_schema
    def _sound(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        stages: list[Stage] = data.get("stages", [])
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise invalid("two stages have one name", "give each its own")
        if "secret" in data and len(data["secret"]) < LEAST_SECRET:
            raise invalid(
                f"the secret has fewer than {LEAST_SECRET} characters", "make a random one"
            )
        for index, stage in enumerate(stages):
            _judge(stage, first=index == 0)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> tuple[Pipeline, str | None]:
        del kwargs
        secret = data.pop("secret", None)
        data["stages"] = tuple(data["stages"])
        return Pipeline(**data), secret


def _judge(stage: Stage, *, first: bool) -> None:
    """Refuse what a stage cannot be in its place."""
    if first and (stage.gates or stage.after_url or stage.auto):
        raise invalid(
            f"stage {stage.name} is the first: images are pushed there, nothing stands before it",
            "write gates, after and auto at the stages behind it",
        )
    for text in filter(None, (stage.repository, stage.tag)):
        try:
            if first:
                if "{" in text and "}" in text and "," not in text:
                    raise invalid(
                        f"stage {stage.name} is the first: {text!r} is a template, and no glob",
                        'say what enters: "shop/*"',
                    )
                compile_glob(text)
            else:
                placeholders(text)
        except InvalidInput as error:
            raise invalid(f"stage {stage.name}: {error.message}", error.hint) from error


def load_pipeline(
    document: Any, *, read_key: ReadKey = read_key_here, in_file: bool = False
) -> tuple[Pipeline, str | None]:
    """Read a pipeline's document: what it is, and the secret if it came along; raises InvalidFields.

    `read_key` returns the public key in a file that a gate names. `in_file`: a file holds no secrets.
    """
    if isinstance(document, dict) and document.get("secret") == MASK:
        document = {key: value for key, value in document.items() if key != "secret"}
    if in_file and isinstance(document, dict) and "secret" in document:
        problem = FieldProblem(
            "secret", "does not belong into a file", "write secret_env: TRANSSHIP_SECRET_NAME"
        )
        raise InvalidFields((problem,))
    pipeline, secret = load(PipelineSchema(), document)
    stages = tuple(
        replace(
            stage,
            gates=tuple(_with_key(gate, index, n, read_key) for n, gate in enumerate(stage.gates)),
        )
        for index, stage in enumerate(pipeline.stages)
    )
    return replace(pipeline, stages=stages), secret


def _with_key(gate: Gate, stage: int, position: int, read_key: ReadKey) -> Gate:
    if not gate.key or is_pem(gate.key):
        return gate
    try:
        return replace(gate, key=read_key(gate.key))
    except InvalidFields as error:
        path = f"stages[{stage}].gates[{position}].signature.key_file"
        told = tuple(FieldProblem(path, one.message, one.hint) for one in error.problems)
        raise InvalidFields(told) from error


def effective_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """Return the pipeline with every default filled in, in the shape of the document."""
    shown: dict[str, Any] = {
        "name": pipeline.name,
        "project": pipeline.project,
        "stages": [_stage(stage, first=index == 0) for index, stage in enumerate(pipeline.stages)],
    }
    if pipeline.secret_env:
        shown["secret_env"] = pipeline.secret_env
    return shown


def _stage(stage: Stage, *, first: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": stage.name,
        "registry": stage.registry,
        "repository": stage.repository or ("**" if first else "{repository}"),
        "tag": stage.tag or ("*" if first else "{tag}"),
    }
    if not first:
        shown |= {"gates": [effective_gate(gate) for gate in stage.gates], "auto": stage.auto}
    if stage.after_url:
        shown["after"] = {"webhook": stage.after_url}
        if stage.after_secret:
            shown["after"]["secret"] = stage.after_secret
    return shown


def effective_gate(gate: Gate) -> dict[str, Any]:
    """Return a gate with every default filled in, in the shape of the document."""
    said: Mapping[str, Any] | str
    if gate.kind == APPROVAL:
        said = {"role": gate.role, "count": gate.count, "own": gate.own}
    elif gate.kind == SIGNATURE:
        said = {"key": gate.key}
    elif gate.kind == SCAN:
        said = {"worst": gate.worst, **({"webhook": gate.url} if gate.url else {})}
    else:
        said = gate.url
    own = {"secret": gate.secret} if gate.secret else {}
    return {gate.kind: said, "timeout": f"{gate.timeout_seconds:g}s", **own}
