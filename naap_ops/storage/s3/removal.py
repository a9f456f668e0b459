"""Taking away: published sets on demand, and what dead writers left. Only sets that carry our marker are swept."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from naap_ops import clock
from naap_ops.errors import StorageError
from naap_ops.storage.s3 import errors, marker, objects
from naap_ops.storage.s3.client import Place
from naap_ops.storage.s3.folders import private_folder
from naap_ops.storage.s3.marker import Marker
from naap_ops.storage.s3.multipart import abort


@dataclass(frozen=True)
class Removal:
    """What is removed from a place."""

    place: Place

    def remove(self, prefix: str, last: str) -> None:
        """Remove a published set, ``last`` first. Raises StorageError when it is locked or the keys may not delete."""
        key = self.place.key(prefix)
        if next((page for page in objects.listed(self.place, f"{key}/") if page.get("Contents")), None) is None:
            return
        self._demand_unlocked(f"{key}/{last}")
        sign = marker.key_of(self.place, prefix)
        self._demand_not_written(prefix, sign)
        objects.delete(self.place, sign)  # shows whether the keys may delete, before anything is begun; and clears a dead one
        with private_folder(self.place.staging) as folder:
            marker.put(self.place, prefix, folder)
            objects.delete(self.place, f"{key}/{last}")
            self._delete_all(key)
            objects.delete(self.place, sign)

    def _demand_unlocked(self, key: str) -> None:
        found = objects.head(self.place, key)
        until = found.get("ObjectLockRetainUntilDate") if found is not None else None
        held = found is not None and found.get("ObjectLockLegalHoldStatus") == "ON"
        if held or (until is not None and until > clock.now()):
            mode = str((found or {}).get("ObjectLockMode", "legal hold")).lower()
            raise StorageError(
                url=self.place.where(key),
                reason=f"is locked ({mode}) {f'until {clock.iso(until)}' if until is not None else 'without end'}",
                hint="It cannot be removed before; that is what object lock is for.",
                code="locked",
            )

    def _demand_not_written(self, prefix: str, sign: str) -> None:
        found = objects.head(self.place, sign)
        if found is not None and marker.is_alive(self.place, Marker(prefix, sign, found["LastModified"]), []):
            raise StorageError(
                url=self.place.where(self.place.key(prefix)),
                reason="is being written or removed",
                hint="Wait for it.",
                code="busy",
            )

    def sweep(self, folder: str, last: str) -> list[str]:
        """Remove what dead writers left below ``folder``. The names of the sets. What may not be deleted is left."""
        found = list(marker.below(self.place, folder))
        uploads = self._uploads(folder) if found else []
        return [each.prefix.rpartition("/")[2] for each in found if self._remove_dead(each, uploads, last)]

    def _uploads(self, folder: str) -> list[Mapping[str, Any]]:
        """Unfinished uploads below ``folder``; none where the keys may not list them or the store cannot."""
        start = self.place.folder(folder)
        try:
            with errors.at(self.place.where(start)):
                pages = self.place.client.get_paginator("list_multipart_uploads").paginate(
                    Bucket=self.place.bucket, Prefix=start
                )
                return [upload for page in pages for upload in page.get("Uploads", ())]
        except StorageError as error:
            if errors.denied(error) or errors.code(error) in objects.UNKNOWN:
                return []
            raise

    def _remove_dead(self, sign: Marker, uploads: list[Mapping[str, Any]], last: str) -> bool:
        """Remove an unfinished set whose writer is dead. Whether there was one."""
        key = self.place.key(sign.prefix)
        own = [upload for upload in uploads if str(upload["Key"]).startswith(f"{key}/")]
        if marker.is_alive(self.place, sign, own):
            return False
        whole = objects.head(self.place, f"{key}/{last}") is not None
        try:
            for upload in own:
                abort(self.place, str(upload["Key"]), str(upload["UploadId"]))
            if not whole:
                self._delete_all(key)
            objects.delete(self.place, sign.key)
        except StorageError as error:
            if errors.denied(error):
                return False
            raise
        return not whole

    def _delete_all(self, key: str) -> None:
        """Delete every object of a set. Raises the first failure."""
        found = [str(each["Key"]) for page in objects.listed(self.place, f"{key}/") for each in page.get("Contents", ())]
        with ThreadPoolExecutor(self.place.settings.jobs, thread_name_prefix="s3-delete") as pool:
            list(pool.map(lambda each: objects.delete(self.place, each), found))
