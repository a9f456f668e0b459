"""One object: created without ever overwriting, looked at, deleted.

A write that had to be repeated may meet its own first attempt, whose answer was lost; so "exists already" is only believed when
what exists is not what was to be written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from botocore import exceptions as aws

from naap_ops.errors import StorageError
from naap_ops.storage.s3 import errors
from naap_ops.storage.s3.client import Place
from naap_ops.storage.s3.parts import Written, text
from naap_ops.wording import count_of

# What stores answer to a header they do not know.
UNKNOWN = {"NotImplemented", "501", "InvalidArgument", "InvalidRequest", "XNotImplemented", "UnsupportedArgument", "400"}
EXISTS = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "409"}  # another conditional write of this key is under way
_CONFLICT_ATTEMPTS = 3


def head(place: Place, key: str, *, checksum: bool = False) -> Mapping[str, Any] | None:
    """What the store says of an object, or None. ``key`` is the bucket's. Raises StorageError."""
    mode = {"ChecksumMode": "ENABLED"} if checksum else {}
    try:
        with errors.at(place.where(key)):
            found: Mapping[str, Any] = place.client.head_object(Bucket=place.bucket, Key=key, **mode)
            return found
    except StorageError as error:
        if errors.missing(error):
            demand_bucket(place)
            return None
        raise


def demand_bucket(place: Place) -> None:
    """A HEAD of a missing object and of one in a missing bucket read alike: ask. Raises StorageError for the latter."""
    if not place.bucket_seen:
        with errors.at(place.url):
            try:
                place.client.head_bucket(Bucket=place.bucket)
            except aws.ClientError as error:
                if errors.missing(error):
                    error.response["Error"]["Code"] = "NoSuchBucket"
                    raise
        place.bucket_seen = True


def create(place: Place, key: str, body: bytes, options: Mapping[str, Any], *, look: bool = False) -> Written:
    """Write a small object that must not exist yet. Raises StorageError, NoSpace.

    ``look`` first, besides the conditional write: some stores ignore the condition without a word. Within a set, whose prefix
    was empty when it was begun, that is not needed.
    """
    written = Written(key, len(body), len(body), [hashlib.sha256(body).digest()], multipart=False)
    if look or not place.conditional:
        _demand_absent(place, key)
    try:
        with errors.at(place.where(key)):
            _put(place, written, body, options)
    except StorageError as error:
        if _is_ours(place, written, error):
            return written
        if errors.code(error) in EXISTS:
            raise exists(place, key) from error
        raise
    return written


def demand_lockable(place: Place) -> None:
    """Raises StorageError when s3.object_lock is set and the bucket is known to have none, before anything is sent."""
    if place.settings.object_lock is None:
        return
    try:
        with errors.at(place.url):
            place.client.get_object_lock_configuration(Bucket=place.bucket)
    except StorageError as error:
        if errors.code(error) == "ObjectLockConfigurationNotFoundError":
            raise
        # No right to ask, or a store that has no such question: the first write will show it.


def exists(place: Place, key: str) -> StorageError:
    """The refusal to overwrite."""
    return StorageError(url=place.where(key), reason="exists already and is never overwritten", hint=None, code="exists")


def _demand_absent(place: Place, key: str) -> None:
    """For stores whose conditional writes are not known to work. Keys that may not list get 403 for what is missing."""
    try:
        found = head(place, key)
    except StorageError as error:
        if not errors.denied(error):
            raise
        return
    if found is not None:
        raise exists(place, key)


def _put(place: Place, written: Written, body: bytes, options: Mapping[str, Any]) -> None:
    conflicts = 0
    while True:
        sent_sha256, sent_condition = place.sha256 is not False, place.conditional
        condition = {"IfNoneMatch": "*"} if sent_condition else {}
        try:
            answer = place.client.put_object(
                Bucket=place.bucket,
                Key=written.key,
                Body=body,
                **integrity(place, body, written.digests[0]),
                **condition,
                **options,
            )
        except aws.ClientError as error:
            kind = errors.code(error)
            if kind in _CONFLICT and conflicts < _CONFLICT_ATTEMPTS:
                conflicts += 1
            elif not (kind in UNKNOWN and _do_without(place, sent_sha256=sent_sha256, sent_condition=sent_condition)):
                raise
        else:
            if place.sha256 is None:
                place.sha256 = "ChecksumSHA256" in answer
            return


def _do_without(place: Place, *, sent_sha256: bool, sent_condition: bool) -> bool:
    """The store refused something it does not know: leave out one more header. False when nothing is left to leave out."""
    if sent_sha256 and place.sha256 is None:
        place.sha256 = False
    elif sent_condition:
        place.conditional = False
    else:
        return False
    return True


def integrity(place: Place, body: bytes | memoryview, sha256: bytes) -> dict[str, str]:
    """The checksum by which the store refuses what was changed on the way."""
    if place.sha256 is False:
        return {"ContentMD5": text(hashlib.md5(body, usedforsecurity=False).digest())}
    return {"ChecksumSHA256": text(sha256)}


def _is_ours(place: Place, written: Written, error: StorageError) -> bool:
    """Whether the object is there as it was to be written, after an answer that leaves that open."""
    uncertain = not errors.code(error) or (errors.code(error) in EXISTS and errors.repeated(error))
    return uncertain and is_there(place, written)


def is_there(place: Place, written: Written) -> bool:
    """Whether the store holds exactly this, by its own SHA-256 or by reading it. False too when it cannot be asked."""
    try:
        prove(place, written, whole=True)
    except StorageError:
        return False
    return True


def prove(place: Place, written: Written, *, whole: bool = False) -> list[int]:
    """Check size and, where kept, SHA-256 of a written object. The parts (from 0) that s3.read_back wants read besides.

    ``whole`` reads those itself, all of them unless the store keeps SHA-256. Raises StorageError when something else is there.
    """
    found = head(place, written.key, checksum=place.sha256 is not False)
    if found is None or found["ContentLength"] != written.size:
        size = "nothing" if found is None else count_of(found["ContentLength"], "byte")
        raise differs(place, written, f"the store has {size} of it, {written.size} were sent")
    kept = str(found.get("ChecksumSHA256", ""))
    proven = bool(kept) and place.sha256 is not False
    if proven and kept.partition("-")[0] != written.checksum.partition("-")[0]:
        raise differs(place, written, "the store's SHA-256 of it is another")
    if whole:
        for index in [] if proven else range(len(written.digests)):
            read_part(place, written, index)
        return []
    return _wanted(place.settings.read_back, len(written.digests), proven=proven)


def _wanted(how: str, count: int, *, proven: bool) -> list[int]:
    """Which parts are fetched back: all, a sample (first, last, one between), or none."""
    if how == "all" or (how == "auto" and not proven):
        return list(range(count))
    if how == "sample":
        import random

        return sorted({0, count - 1, random.randrange(count)})
    return []


def differs(place: Place, written: Written, reason: str) -> StorageError:
    """What the store holds is not what was sent."""
    hint = "Nothing of this set is published. Try again; if it happens again, set s3.checksums and look at the store."
    return StorageError(url=place.where(written.key), reason=f"read back wrong: {reason}", hint=hint, code="differs")


def read_part(place: Place, written: Written, index: int) -> None:
    """Fetch a part and compare its SHA-256. Raises StorageError."""
    from naap_ops.storage.s3.download import pieces

    start, length = written.range(index)
    digest = hashlib.sha256()
    for piece in pieces(place, written.key, start, length) if length else ():
        digest.update(piece)
    if digest.digest() != written.digests[index]:
        raise differs(place, written, f"bytes {start} to {start + length} are others")


def listed(place: Place, full_prefix: str, **options: Any) -> Iterator[Mapping[str, Any]]:
    """The pages of a listing of keys that begin with ``full_prefix``. Raises StorageError."""
    with errors.at(place.where(full_prefix)):
        pages = place.client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=place.bucket, Prefix=full_prefix, **options)


def delete(place: Place, key: str) -> None:
    """Delete one object; that it is not there is no error. Raises StorageError, also when the keys may not delete."""
    with errors.at(place.where(key)):
        place.client.delete_object(Bucket=place.bucket, Key=key)
