"""Backups made by hand, without a server: plain scripts with their manifests, published through the real storage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naap_ops.backup.manifest import FILE_NAME, FileFact, Manifest, Scope, TableFact
from naap_ops.backup.repository import Backup, Repository
from naap_ops.backup.take import SUMS
from naap_ops.storage.local import LocalStorage

SCRIPT = b"""--
-- PostgreSQL database dump
--

--
-- Data for Name: users; Type: TABLE DATA; Schema: public; Owner: app
--

COPY public.users (id, name) FROM stdin;
1\tAda
2\tGrace
\\.


--
-- PostgreSQL database dump complete
--

"""
ARCHIVE = "backup.sql"
ID = "20261121T031500Z-5f3a1c"

MakeManifest = Callable[..., Manifest]
Publish = Callable[..., Backup]


def fact(path: str, content: bytes) -> FileFact:
    return FileFact(path, len(content), hashlib.sha256(content).hexdigest())


def sums(files: list[FileFact]) -> bytes:
    return "".join(f"{f.sha256}  {f.path}\n" for f in files).encode()


@pytest.fixture
def make_manifest() -> MakeManifest:
    """A manifest of a plain backup with one table of two rows; ``make_manifest(label="x")`` changes fields."""

    def make(**changes: Any) -> Manifest:
        files = [fact(ARCHIVE, SCRIPT), fact("globals.sql", b"")]
        fields: dict[str, Any] = {
            "id": ID,
            "label": "",
            "alias": "app",
            "kind": "full",
            "scope": Scope(),
            "format": "plain",
            "compression": "none",
            "archive": ARCHIVE,
            "database": {"name": "app", "encoding": "UTF8"},
            "server": {"version": "16.4", "version_num": 160004, "system_identifier": "7439", "in_recovery": False},
            "tools": {"version": "16.4", "origin": "PATH"},
            "extensions": [],
            "roles": ["app"],
            "schemas": [{"name": "public", "owner": "app"}],
            "prisma": [],
            "started_at": "2026-11-21T03:15:00.000Z",
            "snapshot_at": "2026-11-21T03:15:00.100Z",
            "finished_at": "2026-11-21T03:15:01.000Z",
            "wal_lsn": "0/15D6B40",
            "seconds": 1.0,
            "rows": 2,
            "bytes": sum(f.bytes for f in files),
            "tables": [TableFact("public", "users", 16400, "app", 2)],
            "files": [*files, fact(SUMS, sums(files))],
            "verified": {"grade": "read", "at": "2026-11-21T03:15:01.000Z", "by": "a test"},
        }
        return Manifest(**{**fields, **changes})

    return make


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(LocalStorage(tmp_path / "repository"))


@pytest.fixture
def publish(repository: Repository, make_manifest: MakeManifest) -> Publish:
    """Publish a backup: ``publish("app", ID, label="x")``; further keywords are fields of the manifest."""

    def put(alias: str = "app", id: str = ID, **fields: Any) -> Backup:
        manifest = make_manifest(alias=alias, id=id, **fields)
        staging = repository.begin(alias, id)
        for name, content in ((ARCHIVE, SCRIPT), ("globals.sql", b""), (SUMS, sums(manifest.files[:-1]))):
            (staging.path / name).write_bytes(content)
            staging.complete(name)
        staging.publish(FILE_NAME, manifest.to_json())
        return next(b for b in repository.backups(alias) if b.id == id)

    return put
