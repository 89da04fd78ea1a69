"""What the API answers of receipts beside the receipts themselves."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema


class ReceiptKeySchema(AnswerSchema):
    """The public half of the key that signs this instance's receipts."""

    algorithm = fields.String(required=True, metadata={"example": "ed25519"})
    instance = fields.String(
        required=True, metadata={"description": "under which name receipts tell of this key"}
    )
    public_key = fields.String(required=True, metadata={"description": "in PEM"})
