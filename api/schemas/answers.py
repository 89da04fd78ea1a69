"""The shape of what the API answers, for the OpenAPI document; tests hold answers to it."""

from __future__ import annotations

from marshmallow import RAISE, Schema, fields, validate

from api.schemas.common import StrictSchema
from api.schemas.governance import ProjectSchema, WebhookSchema
from api.schemas.registry import RegistrySchema
from api.schemas.rule import RuleSchema
from service.model.states import CopyState, ExecutionState
from service.store.tokens import AGENT_ROLE, ROLES


class AnswerSchema(Schema):
    """An answer: exactly these keys."""

    class Meta:
        """Nothing else comes."""

        unknown = RAISE


class ItemSchema(AnswerSchema):
    """What every stored object has beside what was written."""

    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class RegistryHealthSchema(AnswerSchema):
    """What the last check of a registry came to."""

    state = fields.String(
        required=True, validate=validate.OneOf(["healthy", "unhealthy", "refused"])
    )
    since = fields.DateTime(required=True)
    checked_at = fields.DateTime(required=True)
    reason = fields.String(required=True)
    holds = fields.Boolean(
        required=True, metadata={"description": "its copies wait until it is well again"}
    )


class RegistryAnswerSchema(RegistrySchema):
    """A registry as written, secrets as {"set": bool}, with its defaults under `effective`."""

    effective = fields.Nested(RegistrySchema, required=True)
    set = fields.String(allow_none=True, required=True)
    version = fields.Integer(required=True)
    paused_at = fields.DateTime(allow_none=True, required=True)
    health = fields.Nested(
        RegistryHealthSchema,
        allow_none=True,
        required=True,
        metadata={"description": "none: it was not checked yet"},
    )
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class AlertSchema(AnswerSchema):
    """Something that is wrong with a rule, until it resolves itself."""

    kind = fields.String(required=True, validate=validate.OneOf(["late", "idle", "empty"]))
    region = fields.String(
        required=True, allow_none=True, metadata={"description": "none: all of the rule's"}
    )
    since = fields.DateTime(required=True)
    reason = fields.String(required=True)


class RuleAnswerSchema(RuleSchema):
    """A rule as written, with its defaults under `effective`."""

    effective = fields.Nested(RuleSchema, required=True)
    set = fields.String(allow_none=True, required=True)
    version = fields.Integer(required=True)
    next_run_at = fields.DateTime(allow_none=True, required=True)
    paused_at = fields.DateTime(allow_none=True, required=True)
    late_since = fields.DateTime(
        allow_none=True, required=True, metadata={"description": "behind its freshness"}
    )
    alerts = fields.List(
        fields.Nested(AlertSchema),
        required=True,
        metadata={"description": "what is wrong with it now"},
    )
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class CopyCountsSchema(AnswerSchema):
    """Copies by how they ended; pending ones have not."""

    copied = fields.Integer(required=True)
    unchanged = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    pending = fields.Integer(required=True)


class BlobCountsSchema(AnswerSchema):
    """Blobs by how they came to the destination."""

    copied = fields.Integer(required=True)
    mounted = fields.Integer(required=True)
    present = fields.Integer(required=True)


class ByteCountsSchema(AnswerSchema):
    """Bytes read from the source, and bytes that did not have to be."""

    copied = fields.Integer(required=True)
    saved = fields.Integer(required=True)


class DestinationCountsSchema(AnswerSchema):
    """One destination's part of an execution."""

    copies = fields.Nested(CopyCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)


class HoldSchema(AnswerSchema):
    """A pause that an execution waits behind."""

    kind = fields.String(required=True, validate=validate.OneOf(["rule", "registry"]))
    name = fields.String(required=True)
    paused_at = fields.DateTime(required=True)
    reason = fields.String(
        required=True,
        metadata={
            "description": "what a registry fails with whose health holds it back; else empty"
        },
    )


class RetrySchema(AnswerSchema):
    """Open copies of one destination that failed for one class of reasons and are tried again."""

    destination = fields.String(required=True)
    failure_class = fields.String(required=True, data_key="class")
    reason = fields.String(required=True, metadata={"description": "of one of them"})
    copies = fields.Integer(required=True)
    tries = fields.Integer(required=True, metadata={"description": "of the copy with the most"})
    next_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "none while a try is under way"}
    )


class CrossedSchema(AnswerSchema):
    """What one registry was read of for another: bytes of blobs, and the copies that they made."""

    source = fields.String(required=True, data_key="from")
    target = fields.String(required=True, data_key="to")
    copies = fields.Integer(required=True)
    bytes = fields.Integer(required=True)


class LagSchema(AnswerSchema):
    """How far one destination is behind."""

    registry = fields.String(required=True)
    region = fields.String(required=True)
    waiting = fields.Integer(required=True, metadata={"description": "copies on their way"})
    seconds = fields.Float(
        required=True,
        metadata={
            "description": "since the oldest change that is not there yet; 0 when all is there"
        },
    )
    last_seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "that the last copy took, from the change to its commit"},
    )
    last_at = fields.DateTime(required=True, allow_none=True)


class RegionBudgetSchema(AnswerSchema):
    """How a rule has kept its objective in one region."""

    judged_seconds = fields.Float(required=True)
    missed_seconds = fields.Float(required=True)
    within = fields.Float(required=True, metadata={"description": "part of the time, 0 to 1"})
    left = fields.Float(
        required=True,
        metadata={"description": "part of the budget that is left; negative: more was spent"},
    )
    left_seconds = fields.Float(required=True)


class BudgetSchema(AnswerSchema):
    """What of the window a rule may miss its objective, and has."""

    window_seconds = fields.Float(required=True)
    target = fields.Float(required=True)
    regions = fields.Dict(
        keys=fields.String(), values=fields.Nested(RegionBudgetSchema), required=True
    )


class RuleLagSchema(AnswerSchema):
    """How far the destinations of a rule are behind its source."""

    rule = fields.String(required=True)
    objective_seconds = fields.Float(
        required=True, allow_none=True, metadata={"description": "the rule's freshness"}
    )
    seconds = fields.Float(
        required=True, metadata={"description": "of the destination furthest behind"}
    )
    unseen_seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "since the last good look at the source; none where events tell of changes"
        },
    )
    kept = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={"description": "whether the objective is kept now"},
    )
    budget = fields.Nested(BudgetSchema, required=True, allow_none=True)
    regions = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    destinations = fields.List(fields.Nested(LagSchema), required=True)


class ExecutionSchema(AnswerSchema):
    """One run of one rule."""

    id = fields.String(required=True)
    rule = fields.String(required=True)
    project = fields.String(required=True)
    kind = fields.String(required=True, metadata={"example": "full"})
    trigger = fields.String(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf([state.value for state in ExecutionState])
    )
    reason = fields.String(required=True)
    failure_class = fields.String(required=True, data_key="class")
    warnings = fields.List(fields.String(), required=True)
    held_by = fields.List(
        fields.Nested(HoldSchema),
        required=True,
        metadata={"description": "the pauses that it waits behind"},
    )
    planned = fields.Boolean(required=True, metadata={"description": "every copy is known"})
    created_at = fields.DateTime(required=True)
    started_at = fields.DateTime(allow_none=True, required=True)
    finished_at = fields.DateTime(allow_none=True, required=True)
    seconds = fields.Float(required=True)


class ExecutionDetailSchema(ExecutionSchema):
    """One run with its totals."""

    flows = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "the first executions of what it goes on from; see /flows"},
    )
    retrying = fields.List(
        fields.Nested(RetrySchema),
        required=True,
        metadata={"description": "why copies are tried again, while it is open"},
    )
    copies = fields.Nested(CopyCountsSchema, required=True)
    blobs = fields.Nested(BlobCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)
    requests = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    links = fields.List(
        fields.Nested(CrossedSchema),
        required=True,
        metadata={"description": "what went from registry to registry"},
    )
    destinations = fields.Dict(
        keys=fields.String(), values=fields.Nested(DestinationCountsSchema), required=True
    )


class CopySchema(AnswerSchema):
    """One source reference on its way to one destination."""

    id = fields.Integer(required=True)
    rule = fields.String(required=True)
    execution = fields.String(required=True)
    source = fields.String(required=True, metadata={"example": "east/team/app:1.2"})
    destination = fields.String(required=True)
    digest = fields.String(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf([state.value for state in CopyState])
    )
    failure_class = fields.String(required=True, data_key="class")
    reason = fields.String(required=True)
    hint = fields.String(required=True)
    fix = fields.String(
        required=True, metadata={"description": "what mends failures of its class; empty for none"}
    )
    attempts = fields.Integer(required=True)
    entry = fields.Integer(
        required=True, metadata={"description": "which entry of the rule's select took it"}
    )
    bytes = fields.Integer(required=True)
    updated_at = fields.DateTime(required=True)


class FailureSchema(AnswerSchema):
    """One copy that failed, or the reason why an execution did, which names no copy."""

    rule = fields.String(required=True)
    source = fields.String(required=True, allow_none=True)
    destination = fields.String(required=True, allow_none=True)
    digest = fields.String(required=True, allow_none=True)
    failure_class = fields.String(required=True, data_key="class")
    reason = fields.String(required=True)
    hint = fields.String(required=True)
    attempts = fields.Integer(required=True)
    retryable = fields.Boolean(required=True)


class RunSchema(AnswerSchema):
    """One execution's part of a report."""

    execution = fields.String(required=True)
    rule = fields.String(required=True)
    state = fields.String(required=True)
    copies = fields.Nested(CopyCountsSchema, required=True)
    blobs = fields.Nested(BlobCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)
    seconds = fields.Float(required=True)


class DestinationReportSchema(AnswerSchema):
    """One destination's part of a report."""

    state = fields.String(required=True)
    copies = fields.Nested(CopyCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)


class ReportSchema(AnswerSchema):
    """What executions came to: the object that the command line prints with --json."""

    schema = fields.Integer(required=True)
    execution = fields.String(required=True, allow_none=True)
    state = fields.String(required=True)
    copies = fields.Nested(CopyCountsSchema, required=True)
    blobs = fields.Nested(BlobCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)
    requests = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    seconds = fields.Float(required=True)
    executions = fields.List(fields.Nested(RunSchema), required=True)
    destinations = fields.Dict(
        keys=fields.String(), values=fields.Nested(DestinationReportSchema), required=True
    )
    warnings = fields.List(fields.String(), required=True)
    failures_total = fields.Integer(required=True)
    failures = fields.List(fields.Nested(FailureSchema), required=True)


class TokenSchema(AnswerSchema):
    """What is known of a token; its text is shown once, when it is made."""

    name = fields.String(required=True)
    id = fields.String(
        required=True, metadata={"description": "what its text begins with, after tsp_"}
    )
    role = fields.String(required=True, validate=validate.OneOf([*ROLES, AGENT_ROLE]))
    project = fields.String(allow_none=True, required=True)
    region = fields.String(
        allow_none=True,
        required=True,
        metadata={"description": "of role agent: whose copies it fetches"},
    )
    expires_at = fields.DateTime(allow_none=True, required=True)
    created_at = fields.DateTime(required=True)
    revoked_at = fields.DateTime(allow_none=True, required=True)
    token = fields.String()


class ProblemFieldSchema(AnswerSchema):
    """One wrong field."""

    field = fields.String(required=True)
    message = fields.String(required=True)
    hint = fields.String(required=True)


class ProblemSchema(AnswerSchema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    instance = fields.String(required=True)
    hint = fields.String()
    errors = fields.List(fields.Nested(ProblemFieldSchema))


class NoBodySchema(StrictSchema):
    """An empty object, or no body at all."""


class RegistryPageSchema(AnswerSchema):
    """One page of registries."""

    items = fields.List(fields.Nested(RegistryAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class RulePageSchema(AnswerSchema):
    """One page of rules."""

    items = fields.List(fields.Nested(RuleAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class ExecutionPageSchema(AnswerSchema):
    """One page of executions, the newest first."""

    items = fields.List(fields.Nested(ExecutionSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class CopyPageSchema(AnswerSchema):
    """One page of copies."""

    items = fields.List(fields.Nested(CopySchema), required=True)
    next = fields.String(allow_none=True, required=True)


class TokenPageSchema(AnswerSchema):
    """One page of tokens."""

    items = fields.List(fields.Nested(TokenSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class EffectiveProjectSchema(ProjectSchema):
    """A project with its defaults; `everything`: nobody has written the default project yet."""

    everything = fields.Boolean()


class ProjectAnswerSchema(ProjectSchema):
    """A project as written, with its defaults under `effective`; version 0 is the unwritten default."""

    effective = fields.Nested(EffectiveProjectSchema, required=True)
    set = fields.String(allow_none=True, required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(allow_none=True, required=True)
    updated_at = fields.DateTime(allow_none=True, required=True)


class ProjectPageSchema(AnswerSchema):
    """One page of projects."""

    items = fields.List(fields.Nested(ProjectAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class SecretSchema(AnswerSchema):
    """What is known of a secret; its value never comes out again."""

    name = fields.String(required=True)
    set = fields.Boolean(required=True)
    hosts = fields.List(fields.String(), required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class SecretPageSchema(AnswerSchema):
    """One page of secrets."""

    items = fields.List(fields.Nested(SecretSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class KeptSecretSchema(AnswerSchema):
    """A secret in an answer: whether there is one."""

    set = fields.Boolean(required=True)


class EffectiveWebhookSchema(WebhookSchema):
    """A webhook with its defaults."""

    class Meta(WebhookSchema.Meta):
        """The secret does not come out."""

        exclude = ("secret",)


class WebhookAnswerSchema(WebhookSchema):
    """A webhook as written, its secret as {"set": bool}, with its defaults under `effective`."""

    class Meta(WebhookSchema.Meta):
        """The secret does not come out."""

        exclude = ("secret",)

    effective = fields.Nested(EffectiveWebhookSchema, required=True)
    secret_ = fields.Nested(KeptSecretSchema, required=True, data_key="secret")
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class WebhookPageSchema(AnswerSchema):
    """One page of webhooks."""

    items = fields.List(fields.Nested(WebhookAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class DeliverySchema(AnswerSchema):
    """One event on its way to a webhook; every attempt has the same id."""

    id = fields.String(required=True)
    webhook = fields.String(required=True)
    event = fields.String(required=True, metadata={"example": "execution.failed"})
    state = fields.String(
        required=True, validate=validate.OneOf(["pending", "delivered", "failed"])
    )
    attempts = fields.Integer(required=True)
    status = fields.Integer(
        allow_none=True, required=True, metadata={"description": "of the last answer"}
    )
    reason = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(allow_none=True, required=True)
    next_at = fields.DateTime(allow_none=True, required=True)


class DeliveryPageSchema(AnswerSchema):
    """One page of deliveries, the newest first."""

    items = fields.List(fields.Nested(DeliverySchema), required=True)
    next = fields.String(allow_none=True, required=True)


class AuditSchema(AnswerSchema):
    """One change: who did what to which object; before and after are without secrets."""

    seq = fields.Integer(required=True)
    at = fields.DateTime(required=True)
    actor = fields.String(required=True, metadata={"description": "the token's name"})
    action = fields.String(required=True)
    kind = fields.String(required=True)
    name = fields.String(required=True)
    project = fields.String(required=True)
    before = fields.Dict(allow_none=True, required=True)
    after = fields.Dict(allow_none=True, required=True)
    hash = fields.String(required=True)


class AuditPageSchema(AnswerSchema):
    """One page of the audit log, the newest first."""

    items = fields.List(fields.Nested(AuditSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class VerdictSchema(AnswerSchema):
    """Whether the audit log is whole; `head` is the last row's hash, worth keeping elsewhere."""

    whole = fields.Boolean(required=True)
    rows = fields.Integer(required=True)
    head = fields.String(required=True)
    broken = fields.Integer(allow_none=True, required=True)
    reason = fields.String(required=True)
