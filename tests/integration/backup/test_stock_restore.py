"""RESTORE.md is carried out, command by command as it stands, with nothing but PostgreSQL's own tools, on a fresh server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.digest import Digest, digests
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import samples
from tests.conftest import Servers
from tests.desk import Desk
from tests.s3server import WeedServer

NASTY = (
    """it's "all" $(false) `x` \\ 50% ü""",
    "-d postgres",
    "host=nowhere dbname=postgres",
    "postgresql://x/y",
    "ABC" * 21,
    "größe-" + "ü" * 27 + "x",
)


def commands(guide: str) -> list[str]:
    """The blocks that are indented as code, each to be given to a shell."""
    blocks: list[str] = [""]
    for line in guide.splitlines():
        if line.startswith("       "):
            blocks[-1] += line[7:] + "\n"
        elif line.strip() == "" and blocks[-1]:
            blocks.append("")
    return [block for block in blocks if block]


def carry_out(folder: Path, server: ScratchServer, wanted: slice = slice(None)) -> None:
    """Run the guide's commands as an operator would, in the backup's folder."""
    environ = {"PATH": f"{server.bindir}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **server.info.tool_env()}
    del environ["PGDATABASE"]
    guide = (folder / "RESTORE.md").read_text(encoding="utf-8")
    for block in commands(guide)[wanted]:
        shell(block, folder, environ)


def shell(block: str, folder: Path, environ: Mapping[str, str]) -> None:
    """Have a shell carry out a block, which must succeed."""
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", block],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def tool(name: str) -> str:
    """A program of the system; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"the program {name} is not installed")
    return found


def keygen(file: Path) -> str:
    """Make a secret key as age's users do; the public key."""
    subprocess.run([tool("age-keygen"), "-o", str(file)], check=True, capture_output=True)
    return subprocess.run([tool("age-keygen"), "-y", str(file)], check=True, capture_output=True, text=True).stdout.strip()


def state(info: ConnInfo, dbname: str | None = None) -> dict[str, Digest]:
    with closing(connect(info, dbname=dbname)) as connection:
        return digests(connection)


@pytest.fixture
def fresh(server: ScratchServer, servers: Servers) -> Iterator[ScratchServer]:
    """A second server of the same major, on which nothing is but what the test puts there."""
    other = servers.get(_major(server), "fresh")
    yield other
    with closing(connect(other.info)) as connection:
        names = connection.execute(
            "select datname from pg_database where datname not in ('postgres', 'template0', 'template1')"
        )
        for (name,) in names.fetchall():
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _major(server: ScratchServer) -> int:
    with closing(connect(server.info)) as connection:
        return connection.info.server_version // 10000


def named(info: ConnInfo, name: str) -> ConnInfo:
    """The test's database under another name."""
    with closing(connect(info.with_dbname("postgres"))) as connection:
        rename = sql.SQL("alter database {} rename to {}")
        connection.execute(rename.format(sql.Identifier(str(info.dbname)), sql.Identifier(name)))
    return info.with_dbname(name)


CASES = [
    ("directory", "full", "none"),
    ("directory", "full", "auto"),
    ("directory", "data", "auto"),
    ("custom", "full", "auto"),
    ("custom", "data", "auto"),
    ("plain", "full", "none"),
    ("plain", "data", "none"),
    ("plain", "full", "gzip"),
]


@pytest.mark.parametrize(("format", "kind", "compression"), CASES, ids=["-".join(case) for case in CASES])
def test_whole_databases(
    server: ScratchServer, fresh: ScratchServer, tmp_path: Path, format: str, kind: str, compression: str
) -> None:
    name = NASTY[CASES.index((format, kind, compression)) % len(NASTY)]
    with closing(connect(server.info)) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    desk = Desk(tmp_path, server.info.with_dbname(name))
    assert desk.info is not None
    try:
        desk.sql(samples.EVERYTHING)
        before = state(desk.info)
        backup = desk.backup(kind=kind, label="it's -x 50%", backup__format=format, backup__compression=compression)
    finally:
        desk.sql(f'''drop database "{name.replace('"', '""')}" with (force)''', dbname="postgres")
    with closing(connect(fresh.info)) as connection:  # what happened to the live one: it is there, and empty
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    carry_out(desk.path(backup), fresh)
    assert state(fresh.info, name) == before
    assert state(fresh.info, "before_restore") == {}
    assert sum(digest.rows for digest in before.values()) == backup.sound.rows > 20
    large = "select count(*) from pg_largeobject_metadata"
    assert Desk(tmp_path, fresh.info).ask(large, dbname=name) == 1


@pytest.mark.parametrize("kind", ["full", "data"])
@pytest.mark.parametrize("format", ["directory", "custom", "plain"])
@pytest.mark.long
@pytest.mark.pg(15, 17)
def test_parts(naap_desk: Desk, server: ScratchServer, fresh: ScratchServer, format: str, kind: str) -> None:
    """A schema with foreign keys out of it: its rows are all there, in the tables of the whole."""
    assert naap_desk.info is not None
    parts = {"schemas": ["plugin_community", "plugin_wallet"]}
    backup = naap_desk.backup(kind=kind, parts=parts, backup__format=format)
    carry_out(naap_desk.path(backup), fresh)
    before = {n: d for n, d in state(naap_desk.info).items() if n.startswith(("plugin_community.", "plugin_wallet."))}
    after = state(fresh.info, "restored")
    assert len(before) > 10
    assert {name: after[name] for name in before} == before
    assert sum(digest.rows for digest in after.values()) == backup.sound.rows


@pytest.mark.pg(16)
@pytest.mark.parametrize("format", ["directory", "custom", "plain"])
def test_structure_alone(naap_desk: Desk, server: ScratchServer, fresh: ScratchServer, format: str) -> None:
    assert naap_desk.info is not None
    backup = naap_desk.backup(kind="schema", backup__format=format)
    carry_out(naap_desk.path(backup), fresh, slice(0, 4))
    after = state(fresh.info, "restored")
    assert set(after) == set(state(naap_desk.info))
    assert {digest.rows for digest in after.values()} == {0}


def test_a_damaged_backup_is_stopped_by_the_first_command(any_naap_desk: Desk, any_server: ScratchServer) -> None:
    folder = any_naap_desk.path(any_naap_desk.backup(backup__format="custom"))
    with open(folder / "backup.dump", "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(AssertionError, match=r"backup.dump: FAILED"):
        carry_out(folder, any_server)


ENCRYPTED = [
    ("directory", "full", "auto"),
    ("directory", "data", "auto"),
    ("custom", "full", "auto"),
    ("plain", "full", "gzip"),
]


@pytest.mark.parametrize(("format", "kind", "compression"), ENCRYPTED, ids=["-".join(case) for case in ENCRYPTED])
@pytest.mark.long
@pytest.mark.pg(16)
def test_encrypted(naap_desk: Desk, fresh: ScratchServer, tmp_path: Path, format: str, kind: str, compression: str) -> None:
    """With the real age, and nothing of ours: the stored hashes first, then every file decrypted, then as ever."""
    tool("age")
    naap_desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = keygen(tmp_path / "key.txt")
    assert naap_desk.info is not None
    # A label with a space: in the name of a plain script's file, too.
    backup = naap_desk.backup(kind=kind, label="before it", backup__format=format, backup__compression=compression)
    before = state(naap_desk.info)
    folder = tmp_path / "fetched from elsewhere" / backup.id
    shutil.copytree(naap_desk.path(backup), folder)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".age", ".json", ".md", ""}
    shutil.copy(tmp_path / "key.txt", folder)
    with closing(connect(fresh.info)) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(str(naap_desk.info.dbname))))
    carry_out(folder, fresh)
    assert state(fresh.info, naap_desk.info.dbname) == before
    readable = [path for path in folder.rglob("*") if path.is_file() and path.with_name(path.name + ".age").is_file()]
    assert len(readable) > 1
    assert {path.stat().st_mode & 0o077 for path in readable} == {0}


@pytest.mark.pg(16)
def test_the_wrong_key_opens_nothing(naap_desk: Desk, fresh: ScratchServer, tmp_path: Path) -> None:
    tool("age")
    naap_desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = keygen(tmp_path / "key.txt")
    folder = naap_desk.path(naap_desk.backup())
    keygen(folder / "key.txt")
    with pytest.raises(AssertionError, match="no identity matched"):
        carry_out(folder, fresh)
    assert not (folder / "globals.sql").exists()


@pytest.mark.pg(16)
def test_out_of_a_bucket(naap_desk: Desk, fresh: ScratchServer, s3_server: WeedServer, tmp_path: Path) -> None:
    """The guide alone is fetched; what it says brings the rest, encrypted, and then restores it."""
    environ = s3_server.environment() | {"PATH": f"{Path(tool('aws')).parent}:/usr/bin:/bin"}
    tool("age")
    naap_desk.extra |= s3_server.environment()
    naap_desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = keygen(tmp_path / "key.txt")
    assert naap_desk.info is not None
    bucket = s3_server.bucket()
    taken = naap_desk.run("snapshot", "--repo", f"s3://{bucket}/naap's 50% ü", "--json")
    assert taken.code == 0, taken.err
    before = state(naap_desk.info)
    key = f"{taken.json['url']}/RESTORE.md".removeprefix(f"s3://{bucket}/")
    guide = s3_server.client().get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    shell(commands(guide)[0], tmp_path, environ)
    folder = tmp_path / taken.json["id"]
    shutil.copy(tmp_path / "key.txt", folder)
    with closing(connect(fresh.info)) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(str(naap_desk.info.dbname))))
    carry_out(folder, fresh, slice(1, None))
    assert state(fresh.info, naap_desk.info.dbname) == before
