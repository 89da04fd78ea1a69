"""What the contract fakes of AWS's APIs have in common."""

from __future__ import annotations


class AwsError(Exception):
    """An error of an API of AWS JSON 1.1: status 400, its kind in __type."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
