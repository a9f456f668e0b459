"""An object sent in parts. It does not exist in the bucket before it is completed, so an upload given up leaves no object."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import Any

from botocore import exceptions as aws

from naap_ops.errors import StorageError
from naap_ops.storage.s3 import errors, objects
from naap_ops.storage.s3.client import Place
from naap_ops.storage.s3.parts import Section, Written, text


class Multipart:
    """One upload; parts may be sent by several threads, in any order."""

    def __init__(self, place: Place, key: str, part_size: int) -> None:
        self.place = place
        self.key = key
        self.part_size = part_size
        self.finished = False
        self._lock = threading.Lock()
        self._parts: dict[int, tuple[str, bytes, int]] = {}  # by index: ETag, SHA-256, bytes
        algorithm = {} if place.sha256 is False else {"ChecksumAlgorithm": "SHA256"}
        with errors.at(place.where(key)):
            answer = place.client.create_multipart_upload(
                Bucket=place.bucket, Key=key, **algorithm, **place.protection(archive=True)
            )
        self._id = str(answer["UploadId"])

    def send_section(self, index: int, section: Section) -> None:
        """Send a part of a file: read twice, once for its hash, rather than being in memory. Raises StorageError, NoSpace."""
        sha256, md5 = section.digests(md5=self.place.sha256 is False)
        self._send(
            index, section, len(section), sha256, {"ChecksumSHA256": text(sha256)} if md5 is None else {"ContentMD5": text(md5)}
        )

    def send(self, index: int, body: io.BytesIO) -> None:
        """Send a part, counted from 0. Raises StorageError, NoSpace."""
        with body.getbuffer() as view:  # not getvalue: a part may be large, and is in memory once
            sha256 = hashlib.sha256(view).digest()
            length, checksum = len(view), objects.integrity(self.place, view, sha256)
        body.seek(0)
        self._send(index, body, length, sha256, checksum)

    def _send(self, index: int, body: Any, length: int, sha256: bytes, checksum: dict[str, str]) -> None:
        with errors.at(self.place.where(self.key)):
            answer = self.place.client.upload_part(
                Bucket=self.place.bucket,
                Key=self.key,
                UploadId=self._id,
                PartNumber=index + 1,
                Body=body,
                ContentLength=length,
                **checksum,
            )
        with self._lock:
            self._parts[index] = (str(answer["ETag"]), sha256, length)

    @property
    def written(self) -> Written:
        """What has been sent."""
        parts = [self._parts[index] for index in sorted(self._parts)]
        return Written(self.key, sum(p[2] for p in parts), self.part_size, [p[1] for p in parts], multipart=True)

    def finish(self) -> Written:
        """Make the object of its parts, unless its key exists meanwhile. Raises StorageError."""
        written = self.written
        try:
            with errors.at(self.place.where(self.key)):
                self._complete()
        except StorageError as error:
            if errors.code(error) in objects.EXISTS and not errors.repeated(error):
                raise objects.exists(self.place, self.key) from error
            # An answer got lost and the repetition found the upload gone, or the object there.
            if errors.code(error) not in {"", "NoSuchUpload", *objects.EXISTS} or not objects.is_there(self.place, written):
                raise
        self.finished = True
        return written

    def _complete(self) -> None:
        parts = [
            {"PartNumber": index + 1, "ETag": etag, **({} if self.place.sha256 is False else {"ChecksumSHA256": text(sha256)})}
            for index, (etag, sha256, _) in sorted(self._parts.items())
        ]
        names = {"Bucket": self.place.bucket, "Key": self.key, "UploadId": self._id, "MultipartUpload": {"Parts": parts}}
        if self.place.conditional:
            try:
                self.place.client.complete_multipart_upload(**names, IfNoneMatch="*")
            except aws.ClientError as error:
                if errors.code(error) not in objects.UNKNOWN:
                    raise
            else:
                return
        # A store without conditions here, or one that refuses something else and will say so again.
        if objects.head(self.place, self.key) is not None:
            raise objects.exists(self.place, self.key)
        self.place.client.complete_multipart_upload(**names)

    def abort(self) -> None:
        """Give the parts up. Raises StorageError; an upload that is gone already is none."""
        if self.finished:
            return
        abort(self.place, self.key, self._id)


def abort(place: Place, key: str, upload: str) -> None:
    """Abort an upload by its id. Raises StorageError; one that is gone already is none."""
    try:
        with errors.at(place.where(key)):
            place.client.abort_multipart_upload(Bucket=place.bucket, Key=key, UploadId=upload)
    except StorageError as error:
        if errors.code(error) != "NoSuchUpload":
            raise
