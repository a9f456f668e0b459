"""The project on disk, in the layouts that people have."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from naap_ops.errors import ConfigurationError, PrismaProjectNotFound, PrismaUnsupported
from naap_ops.prisma import project
from naap_ops.prisma.migrations import Migration, locale_key, migrations, misordered
from naap_ops.prisma.project import Overrides

SCHEMA = (
    'datasource db {\n  provider = "postgresql" // provider = "mysql"\n  url = env("POOLED")\n  directUrl = env("DIRECT")\n}\n'
)


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("where", ["", "packages/database", "packages/db", "apps/backend", "internal-packages/x/y"])
def test_layouts(tmp_path: Path, where: str) -> None:
    """Found from the repository's root, from the project's own folder and from the schema's."""
    write(tmp_path / ".git" / "HEAD")
    write(tmp_path / "node_modules" / "x" / "prisma" / "schema.prisma", SCHEMA)
    schema = write(tmp_path / where / "prisma" / "schema.prisma", SCHEMA)
    for cwd in (tmp_path, tmp_path / where, schema.parent):
        found = project.find(cwd)
        assert found.root == tmp_path / where
        assert found.schema == schema
        assert found.migrations == schema.parent / "migrations"
        assert found.url_variables == ("DIRECT", "POOLED")


def test_several_are_to_be_chosen_among(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "apps" / name / "prisma" / "schema.prisma", SCHEMA)
    with pytest.raises(PrismaProjectNotFound, match=r"apps/a, apps/b"):
        project.find(tmp_path)
    assert project.find(tmp_path, Overrides(root=tmp_path / "apps" / "b")).root == tmp_path / "apps" / "b"


def test_none(tmp_path: Path) -> None:
    with pytest.raises(PrismaProjectNotFound, match="there is no Prisma project"):
        project.find(tmp_path)


def test_package_json_names_the_schema_and_the_version(tmp_path: Path) -> None:
    package = {"prisma": {"schema": "db/main.prisma"}, "devDependencies": {"prisma": "^6.16.1"}}
    write(tmp_path / "package.json", json.dumps(package))
    write(tmp_path / "db" / "main.prisma", SCHEMA)
    found = project.find(tmp_path)
    assert found.migrations == tmp_path / "db" / "migrations"
    assert found.version == (6, 16)
    write(tmp_path / "node_modules" / "prisma" / "package.json", '{"version": "5.22.0"}')
    assert project.find(tmp_path).version == (5, 22)


def test_a_schema_of_several_files(tmp_path: Path) -> None:
    write(tmp_path / "prisma" / "schema" / "models" / "user.prisma", "model User {\n  id Int @id\n}\n")
    write(tmp_path / "prisma" / "schema" / "main.prisma", SCHEMA)
    assert project.find(tmp_path).migrations == tmp_path / "prisma" / "schema" / "migrations"
    (tmp_path / "prisma" / "migrations").mkdir()
    assert project.find(tmp_path).migrations == tmp_path / "prisma" / "migrations"


def test_the_configuration_file_outranks_and_settings_outrank_it(tmp_path: Path) -> None:
    write(tmp_path / "prisma" / "schema.prisma", SCHEMA)
    write(tmp_path / "other.prisma", SCHEMA)
    write(tmp_path / "prisma.config.ts", "export default { schema: 'other.prisma', migrations: { path: where() } }")
    found = project.find(tmp_path)
    assert (found.schema, found.migrations) == (tmp_path / "other.prisma", tmp_path / "migrations")
    assert "migrations.path is worked out by code" in found.notes[0]
    assert project.find(tmp_path, Overrides(migrations=tmp_path / "m")).migrations == tmp_path / "m"


@pytest.mark.parametrize("name", ["20260101T0000_x/ops.json", "app/20260101T0000_x/ops.json"])
def test_prisma_8_is_named_and_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "prisma" / "schema.prisma", SCHEMA)
    write(tmp_path / "prisma" / "migrations" / name, "[]")
    with pytest.raises(PrismaUnsupported, match="Prisma 8"):
        project.find(tmp_path)


@pytest.mark.parametrize("lock", [True, False])
def test_another_database_is_refused(tmp_path: Path, lock: bool) -> None:
    write(tmp_path / "prisma" / "schema.prisma", SCHEMA if lock else SCHEMA.replace("postgresql", "mysql", 1))
    if lock:
        write(tmp_path / "prisma" / "migrations" / "migration_lock.toml", '# by hand\nprovider = "mysql"\n')
    with pytest.raises(ConfigurationError, match="is for mysql"):
        project.find(tmp_path)


def migration(tmp_path: Path, script: bytes) -> Migration:
    folder = tmp_path / "m" / "20260101000000_x"
    folder.mkdir(parents=True)
    (folder / "migration.sql").write_bytes(script)
    [found] = migrations(tmp_path / "m")
    return found


def test_checksums_do_not_mind_line_ends(tmp_path: Path) -> None:
    """Nor does the old form of the sum, whose bytes have no leading zeros."""
    unix = hashlib.sha256(b"a;\nb;\n").hexdigest()
    windows = hashlib.sha256(b"a;\r\nb;\r\n").hexdigest()
    found = migration(tmp_path, b"a;\r\nb;\n")
    assert found.matches(unix)
    assert found.matches(windows)
    assert found.matches(hashlib.sha256(b"a;\r\nb;\n").hexdigest())
    assert not found.matches(hashlib.sha256(b"a;\nc;\n").hexdigest())
    unpadded = "".join(f"{byte:x}" for byte in bytes.fromhex(unix))
    assert len(unpadded) < 64
    assert found.matches(unpadded)


def test_the_reverse_beside_a_migration(tmp_path: Path) -> None:
    found = migration(tmp_path, b"select 1;\n")
    assert found.reverse is None
    down = found.path / "down.sql"
    down.write_text(f"-- The reverse of x.\n-- naap: down 1 status=proved sha256={found.sha256}\nBEGIN;\n", encoding="utf-8")
    assert found.reverse == "proved"
    down.write_text(f"-- The reverse of x.\n-- naap: down 1 status=proved sha256={'0' * 64}\n", encoding="utf-8")
    assert found.reverse == "stale"
    down.write_text("drop table x;\n", encoding="utf-8")
    assert found.reverse == "unknown"


NAMES = ["0_init", "00_x", "x-a", "x_a", "xa", "X_A", "x a", "Z", "a", "B", "b", "ä", "az", "2_x", "10_x", "x.a", "_a", "~a"]


def test_the_order_is_that_of_javascript() -> None:
    if shutil.which("node") is None:
        pytest.skip("node not found")
    source = f"console.log(JSON.stringify({json.dumps(NAMES)}.sort((a, b) => a.localeCompare(b))))"
    done = subprocess.run(["node", "-e", source], capture_output=True, text=True, check=True, env={"LC_ALL": "en_US.UTF-8"})
    assert sorted(NAMES, key=locale_key) == json.loads(done.stdout)


def test_where_old_and_new_prisma_differ_in_order() -> None:
    assert misordered(["20260101000000_b", "20260101000001_a"]) == []
    assert misordered(["0_init", "00_x"]) == ["00_x", "0_init"]
