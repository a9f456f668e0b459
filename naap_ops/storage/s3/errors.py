"""What botocore raises, as the storage's own errors: what happened in an operator's words, and what to do about it.

Codes are those of the S3 API's error list; other stores use the same ones or come close. HEAD answers have no body, so that a
wrong key, an expired token and a missing right all read ``403`` there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from botocore import exceptions as aws

from naap_ops.errors import NoSpace, OpsError, StorageError
from naap_ops.wording import count_of

_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden", "UnauthorizedAccess"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_FULL = {
    "QuotaExceeded",
    "QuotaExceededException",
    "StorageQuotaExceeded",
    "TotalStorageLimitExceeded",
    "InsufficientCapacity",
    "InsufficientStorage",
    "507",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
}
# Codes, what is said of them, what to do.
_ANSWERS: tuple[tuple[set[str], str, str], ...] = (
    (
        {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidToken", "InvalidClientTokenId"},
        "the store refused the keys ({kind})",
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3.profile, and that they belong to this endpoint.",
    ),
    (
        {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"},
        "the session's token has expired ({kind})",
        "Sign in again, or give keys that do not expire before a snapshot ends.",
    ),
    (
        {"NoSuchBucket"},
        "the bucket does not exist",
        "Create it, or check its name, s3.endpoint and s3.region. This toolkit never creates buckets.",
    ),
    (_MISSING, "there is no such object", "`invoke backup.list` shows what is there."),
    (
        {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"},
        "the bucket lies in another region ({kind})",
        "Set s3.region or AWS_REGION to the bucket's own.",
    ),
    (
        {
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "TooManyRequests",
            "ServiceUnavailable",
            "503",
            "429",
        },
        "the store asks to slow down ({kind}), after {attempts}",
        "Lower s3.jobs, or raise s3.attempts.",
    ),
    (
        {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "ChecksumMismatch"},
        "what arrived is not what was sent ({kind})",
        "Memory, network or a proxy changes data on the way. Nothing of it was kept.",
    ),
    ({"RequestTimeTooSkewed"}, "the clocks of this machine and the store differ too much", "Set this machine's clock (NTP)."),
    (
        {"InvalidObjectState"},
        "the object is in an archive class and must be brought back first",
        "Restore it in the store (`aws s3api restore-object`).",
    ),
    (
        {"NoSuchUpload"},
        "the upload has been aborted by somebody else",
        "A lifecycle rule that aborts incomplete uploads must allow them at least as long as a snapshot takes.",
    ),
    (
        {"InvalidRetentionPeriod", "ObjectLockConfigurationNotFoundError", "InvalidBucketState", "ObjectLocked"},
        "object lock was refused: {said} ({kind})",
        "The bucket must have been created with object lock for s3.object_lock.",
    ),
)

# What an operation is called in a policy.
_RIGHTS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
}
_DELETE_HINT = (
    "These keys may not delete, which protects the backups. Prune with keys that have s3:DeleteObject, or let the bucket's "
    "lifecycle rules expire old objects."
)


def code(error: BaseException | None) -> str:
    """The S3 error code of a translated or raw error, "" where there is none."""
    if isinstance(error, OpsError):
        return str(error.fields.get("code", ""))
    if isinstance(error, aws.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def denied(error: OpsError) -> bool:
    """Whether the store refused for want of a right."""
    return code(error) in _DENIED


def missing(error: BaseException) -> bool:
    """Whether it says that the object is not there."""
    return code(error) in _MISSING


def repeated(error: BaseException) -> bool:
    """Whether the request was sent more than once before this answer came."""
    raw = error.__cause__ if isinstance(error, OpsError) else error
    return isinstance(raw, aws.ClientError) and bool(raw.response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def translated(where: str, error: aws.BotoCoreError | aws.ClientError) -> OpsError:
    """StorageError, or NoSpace where the store is full. ``where`` is the URL that was worked on."""
    if isinstance(error, aws.ClientError):
        return _answered(where, error)
    reason, hint = _unanswered(error)
    return StorageError(url=where, reason=reason, hint=hint, code="")


def _answered(where: str, error: aws.ClientError) -> OpsError:
    kind = code(error)
    operation = error.operation_name
    said = str(error.response.get("Error", {}).get("Message", "")).strip()
    facts: dict[str, Any] = {"url": where, "code": kind}
    if kind in _FULL:
        return NoSpace(where=where, reason=f"the store says {kind}: {said}", code=kind)
    reason, hint = _explained(
        kind, operation, said, attempts=error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) + 1
    )
    return StorageError(reason=reason, hint=hint, **facts)


def _explained(kind: str, operation: str, said: str, attempts: int) -> tuple[str, str]:
    """Reason and hint for an error answer of the store."""
    if kind in _DENIED:
        return _denial(operation)
    if kind == "InvalidRequest" and "lock" in said.lower():
        kind = "ObjectLocked"
    for kinds, reason, hint in _ANSWERS:
        if kind in kinds:
            return reason.format(kind=kind, said=said, attempts=count_of(attempts, "attempt")), hint
    return f"the store answered {kind or 'an error'} to {operation}, after {count_of(attempts, 'attempt')}: {said}", (
        'If the store lacks a feature, leave out s3.sse, s3.object_lock, s3.tags or set s3.checksums = "when_required".'
    )


def _denial(operation: str) -> tuple[str, str]:
    right = _RIGHTS.get(operation, operation)
    if operation == "DeleteObject":
        return f"the keys may not delete ({right}), or the object is locked", _DELETE_HINT
    return f"access denied: {right} is wanted ({operation})", (
        f"Grant {right} on the bucket and prefix to these keys, if they are not wrong or expired: HEAD answers tell no more."
    )


def _unanswered(error: aws.BotoCoreError) -> tuple[str, str]:
    """Reason and hint where no answer of the store came back."""
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)):
        return "there are no keys for the store", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3.profile."
    if isinstance(error, aws.ProfileNotFound):
        return str(error), "`aws configure list-profiles` shows what there is; s3.profile or AWS_PROFILE names one."
    if isinstance(error, (aws.NoRegionError, aws.InvalidRegionError)):
        return "the region is not known", "Set s3.region or AWS_REGION."
    if isinstance(error, aws.SSLError):
        return (
            f"no trusted TLS connection: {error}",
            "For a certificate of your own authority set s3.ca_bundle or AWS_CA_BUNDLE.",
        )
    if isinstance(error, aws.ProxyConnectionError):
        return f"the proxy cannot be reached: {error}", "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    if isinstance(error, (aws.ReadTimeoutError, aws.ConnectTimeoutError)):
        return (
            "the store does not answer (timeout)",
            "Check network and store; s3.read_timeout and s3.connect_timeout set the patience.",
        )
    if isinstance(error, (aws.HTTPClientError, aws.ConnectionError)):
        return (
            f"the store cannot be reached: {_cause(error)}",
            "Check s3.endpoint (or AWS_ENDPOINT_URL_S3), the network and the store.",
        )
    return str(error), "Check the s3 section of the settings: `invoke config`."


def _cause(error: BaseException) -> str:
    """The innermost reason, in its own words: "[Errno 111] Connection refused" instead of three layers of wrappers."""
    kept = getattr(error, "kwargs", {}).get("error")
    return str(kept or error)


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """botocore's errors inside the block become the storage's own."""
    try:
        yield
    except (aws.BotoCoreError, aws.ClientError) as error:
        raise translated(where, error) from error
