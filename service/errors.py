"""Every error that Transship raises: one tree; each docstring is the default message.

TransshipError
+-- InvalidInput                 what a person or a file gave us is wrong; names the place
|   +-- InvalidReference
|   +-- InvalidDigest
|   +-- InvalidManifest
|   +-- InvalidReceipt
|   +-- InvalidConfiguration
|       +-- InvalidFields        several at once, each with its path and what to do
+-- NotFoundInStore              no such rule, registry, execution
+-- Conflict                     the object is in use, or changed meanwhile
+-- StoreUnavailable
+-- EngineError                  the engine of this machine cannot start or is held by another
+-- RegistryError                a registry said no, or said nothing
    +-- NetworkError             (class network)    reset, time-out, EOF, DNS
    |   +-- TooSlow
    +-- TLSError                 (class policy)
    +-- AddressRefused           (class policy)     the connector's rules forbid the address
    +-- RegistryAway             (class: its cause's)  not asked: it has failed again and again lately
    +-- Throttled                (class throttled)  429, 503 with Retry-After
    +-- ServerError              (class server)     5xx
    |   +-- LayoutFailed         a directory that is a registry cannot be read or written
    +-- LeftOut                  (class gone)       a layout was made without what the other side had confirmed
    +-- AuthenticationFailed     (class auth)       401 with fresh credentials
    +-- Denied                   (class denied)     403
    +-- NotFound                 (class gone)
    |   +-- ManifestNotFound
    |   +-- BlobNotFound
    |   +-- RepositoryNotFound
    |   +-- UploadLost
    +-- Rejected                 (class invalid)    400, 405, 409, 412, 413, 415, 416
    |   +-- Unsupported
    |   +-- SparseIndexRefused   (class policy)     an index wants all of its platforms there
    |   +-- TagImmutable
    |   +-- ManifestBlobUnknown  (class gone)       the registry misses a blob that a manifest names
    +-- Corrupt                  (class corrupt)    digest or size differ from the descriptor
    +-- ProtocolError            (class server)     an answer that is no answer
+-- Unsigned                     (class policy) the rule's key has not signed it
+-- BorderClosed                 (class policy) the rule does not take it across a border
+-- WrongRegion                  (class region) this worker is where the rule has no business
+-- Cancelled                    the execution was stopped, or the process drains
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class TransshipError(Exception):
    """Something went wrong inside Transship."""

    code: ClassVar[str] = "internal"
    failure_class: str = "bug"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.hint = self.default_hint if hint is None else hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class InvalidInput(TransshipError):
    """The input is not valid."""

    code = "invalid_input"
    failure_class = "invalid"

    def __init__(
        self, message: str | None = None, *, field: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class InvalidReference(InvalidInput):
    """This is not a reference to an image: expected registry/repository:tag or @digest."""

    code = "invalid_reference"


class InvalidDigest(InvalidInput):
    """This is not a digest: expected sha256: and 64, or sha512: and 128, lower-case hex digits."""

    code = "invalid_digest"


class InvalidManifest(InvalidInput):
    """The manifest is not one that may be copied."""

    code = "invalid_manifest"


class InvalidReceipt(InvalidInput):
    """This is no receipt that can be believed."""

    code = "invalid_receipt"


class InvalidConfiguration(InvalidInput):
    """The configuration is not valid."""

    code = "invalid_configuration"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field: its path (`select[0].tags`), what is wrong, what to do, its line and file if any."""

    path: str
    message: str
    hint: str = ""
    line: int | None = None
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


class InvalidFields(InvalidConfiguration):
    """Some fields are not valid.

    `source` is the file's name, if there is one; the message then has one file:line a problem.
    """

    code = "invalid_fields"

    def __init__(self, problems: tuple[FieldProblem, ...], *, source: str = "") -> None:
        self.problems = problems
        self.source = source
        super().__init__(
            "\n".join(f"{_place(problem, source)}{problem}" for problem in problems),
            field=problems[0].path if problems else "",
        )


def _place(problem: FieldProblem, source: str) -> str:
    file = problem.file or source
    if not file:
        return f"{problem.line}: " if problem.line else ""
    return f"{file}:{problem.line}: " if problem.line else f"{file}: "


class NotFoundInStore(TransshipError):
    """There is no such object."""

    code = "not_found"
    failure_class = "invalid"


class Conflict(TransshipError):
    """The object is in use or was changed by somebody else meanwhile."""

    code = "conflict"
    failure_class = "invalid"


class StoreUnavailable(TransshipError):
    """The database does not answer."""

    code = "store_unavailable"
    failure_class = "server"
    retryable = True


class EngineError(TransshipError):
    """The engine of this machine cannot start."""

    code = "engine"


class Cancelled(TransshipError):
    """The work was stopped before it was complete."""

    code = "cancelled"
    failure_class = "stopped"
    retryable = True


class Unsigned(TransshipError):
    """The rule's key has not signed it."""

    code = "unsigned"
    failure_class = "policy"
    default_hint = (
        "sign it with the key (cosign sign --key, simple signing at its .sig tag or as a referrer), "
        "or correct require.signature of the rule"
    )


class BorderClosed(TransshipError):
    """Only a rule that names the destination itself takes images across a border."""

    code = "border"
    failure_class = "policy"
    default_hint = "name the registry as a destination of its own, or give both one jurisdiction"


class WrongRegion(TransshipError):
    """This worker's region lies in a jurisdiction that the rule does not touch."""

    code = "region"
    failure_class = "region"
    default_hint = "start a worker in a region of the source's or the destination's jurisdiction"

    def __init__(self, message: str | None = None, *, region: str = "") -> None:
        """`region` is the one whose workers may, if that is known."""
        super().__init__(message)
        self.region = region


class RegistryError(TransshipError):
    """The registry did not do what it was asked to."""

    code = "registry"
    failure_class = "server"

    def __init__(
        self,
        message: str | None = None,
        *,
        registry: str = "",
        status: int = 0,
        oci_code: str = "",
        retry_after_seconds: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.registry = registry
        self.status = status
        self.oci_code = oci_code
        self.retry_after_seconds = retry_after_seconds


class NetworkError(RegistryError):
    """The registry cannot be reached."""

    code = "network"
    failure_class = "network"
    retryable = True
    default_hint = "check the registry's address, and that this machine can reach it"


class TooSlow(NetworkError):
    """The connection fell below the minimum rate."""

    code = "too_slow"


class TLSError(RegistryError):
    """The registry's certificate does not verify."""

    code = "tls"
    failure_class = "policy"
    default_hint = "give the registry's CA as tls.ca_file, or correct its certificate"


class AddressRefused(RegistryError):
    """The address may not be connected to."""

    code = "address_refused"
    failure_class = "policy"
    default_hint = "list the host in the registry's trusted_hosts if it is meant"


class Throttled(RegistryError):
    """The registry asks for fewer requests."""

    code = "throttled"
    failure_class = "throttled"
    retryable = True


class WorldMoved(InvalidInput):
    """A saved plan does not fit any more: source or destination changed since it was made."""

    code = "moved"
    failure_class = "moved"
    default_hint = "make another plan"


class RegistryPaused(RegistryError):
    """The registry is paused here: no request is sent to it until it is resumed."""

    code = "paused"
    failure_class = "paused"
    retryable = True
    default_hint = "resume it with `transship registries resume NAME`"


class RegistryAway(RegistryError):
    """The registry was not asked: it has failed again and again, or takes our credentials no more.

    `cause` is what it failed with, `since_seconds` how long ago that began, `pause_seconds` when it may be
    asked again.
    """

    code = "away"
    retryable = True

    def __init__(
        self,
        registry: str,
        cause: RegistryError,
        *,
        since_seconds: float,
        retry_after_seconds: float,
    ) -> None:
        super().__init__(
            f"{cause.message} (for {since_seconds:.0f} s now)",
            registry=registry,
            status=cause.status,
            oci_code=cause.oci_code,
            retry_after_seconds=retry_after_seconds,
            hint=cause.hint,
        )
        self.failure_class = cause.failure_class
        self.cause = cause
        self.since_seconds = since_seconds
        self.pause_seconds = retry_after_seconds


class ServerError(RegistryError):
    """The registry failed."""

    code = "server_error"
    failure_class = "server"
    retryable = True


class LayoutFailed(ServerError):
    """The image layout cannot be read or written."""

    code = "layout"


class LeftOut(RegistryError):
    """The layout was made without this: the other side had confirmed by receipt that it has it."""

    code = "left_out"
    failure_class = "gone"
    default_hint = (
        "copy to the registry that the receipt is of, or make the layout anew without --since"
    )


class ProtocolError(RegistryError):
    """The registry's answer does not follow the distribution API."""

    code = "protocol"
    failure_class = "server"
    retryable = True


class AnswerTooLong(ProtocolError):
    """The registry's answer is longer than any that is read; it would not be shorter again."""

    code = "answer_too_long"
    retryable = False


class AuthenticationFailed(RegistryError):
    """The registry does not accept the credentials."""

    code = "authentication"
    failure_class = "auth"
    default_hint = "check the registry's credentials"


class Denied(RegistryError):
    """The registry forbids this to these credentials."""

    code = "denied"
    failure_class = "denied"
    default_hint = "check what the registry's credentials may pull and push"


class NotFound(RegistryError):
    """The registry does not have it."""

    code = "gone"
    failure_class = "gone"


class ManifestNotFound(NotFound):
    """The registry does not have this manifest."""

    code = "manifest_gone"


class BlobNotFound(NotFound):
    """The registry does not have this blob."""

    code = "blob_gone"


class RepositoryNotFound(NotFound):
    """The registry does not have this repository."""

    code = "repository_gone"


class UploadLost(NotFound):
    """The registry has forgotten the upload session."""

    code = "upload_lost"
    retryable = True


class Rejected(RegistryError):
    """The registry rejects the request."""

    code = "rejected"
    failure_class = "invalid"


class Unsupported(Rejected):
    """The registry does not support this."""

    code = "unsupported"


class SparseIndexRefused(Rejected):
    """The registry does not take an index some of whose platforms it does not have."""

    code = "sparse_index_refused"
    failure_class = "policy"
    default_hint = (
        "leave platforms out of the rule, or use a destination that takes sparse indexes "
        "(distribution 3: validation.manifests.indexes.platforms)"
    )


class TagImmutable(Rejected):
    """The tag may not be changed at the destination."""

    code = "tag_immutable"


class ManifestBlobUnknown(Rejected):
    """The registry misses a blob or a manifest that this manifest names."""

    code = "manifest_blob_unknown"
    failure_class = "gone"
    retryable = True


class Corrupt(RegistryError):
    """The bytes are not the ones that the digest names."""

    code = "corrupt"
    failure_class = "corrupt"
    retryable = True
