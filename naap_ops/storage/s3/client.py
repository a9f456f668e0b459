"""The bucket behind an `s3://bucket/prefix` URL: a client made from the settings, keys in and out, the options of a write."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode

import boto3
from botocore.config import Config

from naap_ops import clock, redact
from naap_ops.config.settings import S3Settings
from naap_ops.errors import StorageError
from naap_ops.storage.s3 import errors

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]|arn:[^/]+")


@dataclass
class Place:
    """A prefix in a bucket, and what the store has been found to be able to do. Safe to use from several threads."""

    bucket: str
    prefix: str  # without slashes at its ends; may be empty
    settings: S3Settings
    staging: Path | None
    url: str
    # None until the first write has shown it.
    sha256: bool | None = None
    conditional: bool = True
    bucket_seen: bool = False
    _client: Any = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.settings.checksums != "auto":
            self.sha256 = self.settings.checksums == "sha256"

    @property
    def client(self) -> Any:
        """boto3's S3 client, made when first used. Raises StorageError for settings it cannot use."""
        with self._lock:
            if self._client is None:
                with errors.at(self.url):
                    self._client = _client(self.settings, self.url)
            return self._client

    def key(self, key: str) -> str:
        """The bucket's key of a relative one. Raises StorageError for one that leads outside."""
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts or "\0" in key:
            raise StorageError(url=self.url, reason=f"{key!r} leads outside")
        return "/".join(part for part in (self.prefix, *pure.parts) if part)

    def object_key(self, key: str) -> str:
        """The same for an object or a set, which is never the whole storage."""
        full = self.key(key)
        if full == self.prefix:
            raise StorageError(url=self.url, reason="the whole storage is neither an object nor a set of files")
        return full

    def folder(self, prefix: str) -> str:
        """What the bucket's keys of everything in the folder ``prefix`` begin with."""
        full = self.key(prefix)
        return f"{full}/" if full else ""

    def relative(self, full: str) -> str:
        """The inverse of :meth:`key`."""
        return full[len(self.prefix) + 1 :] if self.prefix else full

    def where(self, full: str) -> str:
        """The URL of one of the bucket's keys, for messages."""
        return f"s3://{self.bucket}/{full}"

    def protection(self, *, lock: bool = True, archive: bool = False) -> dict[str, Any]:
        """Encryption, tags, object lock and storage class as parameters of a write.

        ``archive``: a file of a set. The storage class is for those only: what a catalogue reads must stay readable at once.
        """
        own = self.settings
        options: dict[str, Any] = {}
        if own.sse is not None:
            options["ServerSideEncryption"] = own.sse
        if own.kms_key_id is not None:
            options["SSEKMSKeyId"] = own.kms_key_id
        if own.tags:
            options["Tagging"] = urlencode(dict(tag.split("=", 1) for tag in own.tags), quote_via=quote)
        if archive and own.storage_class is not None:
            options["StorageClass"] = own.storage_class
        if lock and own.object_lock is not None and own.lock_days is not None:
            options["ObjectLockMode"] = own.object_lock.upper()
            options["ObjectLockRetainUntilDate"] = clock.now() + timedelta(days=own.lock_days)
        return options


def place(url: str, settings: S3Settings, staging: Path | None) -> Place:
    """Read ``s3://bucket/prefix``. Nothing is sent. Raises StorageError for a name no bucket can have."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    parts = [part for part in prefix.split("/") if part]
    if not _BUCKET.fullmatch(bucket) or ".." in parts or "." in parts:
        raise StorageError(url=repr(url), reason="is no s3://bucket/prefix", hint="For example s3://my-backups/naap.")
    return Place(bucket, "/".join(parts), settings, staging, "/".join(["s3:/", bucket, *parts]))


def _client(settings: S3Settings, url: str) -> Any:
    session = boto3.session.Session(profile_name=settings.profile)
    credentials = session.get_credentials()
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        redact.register(frozen.secret_key)
        redact.register(frozen.token)
    try:
        return _made(session, settings)
    except ValueError as error:  # botocore's word for an endpoint that is no URL
        raise StorageError(url=url, reason=str(error), hint="Check s3.endpoint and AWS_ENDPOINT_URL_S3.") from None


def _made(session: Any, settings: S3Settings) -> Any:
    style = {"auto": "auto", "always": "path", "never": "virtual"}[settings.path_style]
    options: dict[str, Any] = {
        "region_name": settings.region or session.region_name or "us-east-1",
        "endpoint_url": settings.endpoint,
        "verify": str(settings.ca_bundle) if settings.ca_bundle is not None else None,
    }
    client = session.client("s3", config=_config(settings, style), **options)
    if style == "auto" and not client.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        client.close()  # stores of other makers seldom have a name in DNS for each bucket
        client = session.client("s3", config=_config(settings, "path"), **options)
    return client


def _config(settings: S3Settings, style: str) -> Config:
    return Config(
        # A write carries its own SHA-256 or MD5 always; what botocore would add (CRC framing) other stores take for content.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Nor is the payload hashed a second time for the signature: the checksum in the headers is signed.
        s3={"addressing_style": style, "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        connect_timeout=settings.connect_timeout.total_seconds(),
        read_timeout=settings.read_timeout.total_seconds(),
        max_pool_connections=2 * settings.jobs + 4,
        tcp_keepalive=True,
        user_agent_extra="naap-ops",
    )
