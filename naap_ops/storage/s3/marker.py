"""Who is writing which set: a small object per set under ``.partial/``, by which a sweep tells the living from the dead.

S3 has no locks. On the writer's own machine the lock of its staging folder answers; it is found by the kernel's boot and mount
namespace, because another container's folders cannot be seen from here. A writer elsewhere counts as living for a day after
its last sign: its marker's time, the beginning of its newest upload, its newest part.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from naap_ops import clock
from naap_ops.errors import StorageError
from naap_ops.lock import is_held
from naap_ops.storage.s3 import errors, objects
from naap_ops.storage.s3.client import Place
from naap_ops.storage.s3.folders import LOCK

FOLDER = ".partial"  # by this ending of a folder's name listings know what is not published, here as in the local storage
PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class Marker:
    """A set under way: its relative prefix, the marker's key in the bucket, when it was written."""

    prefix: str
    key: str
    modified: datetime


def key_of(place: Place, prefix: str) -> str:
    """The bucket's key of a set's marker."""
    return place.key(f"{FOLDER}/{_flat(place.relative(place.key(prefix)))}")


def _flat(prefix: str) -> str:
    """A prefix as one name. Not percent-encoded: databases' folders are so already, and stores that keep folders have names of
    255 bytes at most; that of a database of 63 bytes would not fit a second time."""
    return prefix.replace("!", "!0").replace("/", "!1")


def _unflat(name: str) -> str:
    return name.replace("!1", "/").replace("!0", "!")


def put(place: Place, prefix: str, folder: Path) -> str:
    """Mark the set as being written by this process, whose locked ``folder`` is its sign of life. The marker's key.

    Raises StorageError when it is marked already.
    """
    facts = {
        "lock": str(folder / LOCK),
        "kernel": _kernel(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": clock.iso(),
    }
    key = key_of(place, prefix)
    try:
        objects.create(place, key, json.dumps(facts).encode(), place.protection(lock=False), look=True)
    except StorageError as error:
        if errors.code(error) != "exists":
            raise
        reason = "is being written or removed by somebody, or was left half-done"
        raise StorageError(
            url=place.where(place.key(prefix)),
            reason=reason,
            hint="Wait for it; what is dead is removed by the next run.",
            code="exists",
        ) from error
    return key


def below(place: Place, folder: str) -> Iterator[Marker]:
    """The markers of sets in ``folder``. Raises StorageError."""
    start = place.folder(FOLDER)
    inside = _flat(place.relative(place.key(folder)) + "/") if place.key(folder) != place.prefix else ""
    for page in objects.listed(place, start + inside):
        for found in page.get("Contents", ()):
            yield Marker(_unflat(found["Key"][len(start) :]), found["Key"], found["LastModified"])


def is_alive(place: Place, marker: Marker, uploads: list[Mapping[str, Any]]) -> bool:
    """Whether its writer may still be at work. ``uploads`` are the set's unfinished ones."""
    facts = _facts(place, marker)
    if facts.get("kernel") == _kernel() and isinstance(facts.get("lock"), str):
        return is_held(Path(facts["lock"]))
    limit = clock.now() - PATIENCE
    if marker.modified > limit or any(upload["Initiated"] > limit for upload in uploads):
        return True
    return any(_newest_part(place, upload) > limit for upload in uploads)


def _facts(place: Place, marker: Marker) -> dict[str, Any]:
    with contextlib.suppress(StorageError, ValueError), errors.at(place.where(marker.key)):
        found = json.loads(place.client.get_object(Bucket=place.bucket, Key=marker.key)["Body"].read())
        if isinstance(found, dict):
            return found
    return {}


def _newest_part(place: Place, upload: Mapping[str, Any]) -> datetime:
    newest: datetime = upload["Initiated"]
    with errors.at(place.where(upload["Key"])):
        pages = place.client.get_paginator("list_parts")
        for page in pages.paginate(Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"]):
            newest = max([newest, *(part["LastModified"] for part in page.get("Parts", ()))])
    return newest


def _kernel() -> str:
    """This boot of this machine, and what of its file systems this process sees; "" where the system does not say."""
    with contextlib.suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/mnt')}"
    return f"{socket.gethostname()} {os.uname().release}"
