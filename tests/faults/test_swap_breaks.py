"""What a restore relies on breaks while it runs: its tools, its sessions, the server. The live database stays as it is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import restored
from tests.conftest import Servers
from tests.desk import Desk, wait_until

WORDS = ("restore", "--swap", "--yes", "--json")
PATIENCE = {"NAAP_OPS_RESTORE__LOCK_TIMEOUT": "60s"}


def prepared(server: ScratchServer, folder: Path) -> Iterator[Desk]:
    with restored.swept(server.info):
        desk = restored.desk_with_rows(Desk(folder, restored.create(server.info, restored.NAME)))
        desk.sql(restored.HELD)
        desk.backup()
        desk.sql("update word set w = 'new'")
        yield desk


@pytest.fixture
def desk(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    yield from prepared(any_server, tmp_path)


@pytest.fixture
def mortal(servers: Servers, any_server: ScratchServer) -> ScratchServer:
    """A server that tests may kill."""
    return servers.get(restored.tools(any_server.info).major, "mortal")


@pytest.fixture
def mortal_desk(mortal: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    yield from prepared(mortal, tmp_path)


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = child.communicate(timeout=60)
    return child.returncode, err


def assert_as_before(desk: Desk) -> None:
    assert desk.info is not None
    assert desk.ask("select w from word") == "new"
    assert restored.ours(desk.info, "restore") == restored.ours(desk.info, "before") == []
    assert desk.run(*WORDS).code == 0
    assert desk.ask("select w from word") == "old"


def end_sessions(desk: Desk, condition: str) -> None:
    """Have the server end sessions, at least one."""
    query = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {condition}"
    assert desk.ask(query, "postgres") > 0


KILLS = [
    ("1", "leader", signal.SIGKILL),
    ("2", "leader", signal.SIGTERM),
    ("2", "leader", signal.SIGKILL),  # its workers go on, and hold its standard error open
    ("2", "worker", signal.SIGKILL),
]


@pytest.mark.parametrize(("jobs", "whom", "number"), KILLS)
def test_pg_restore_killed(desk: Desk, jobs: str, whom: str, number: signal.Signals) -> None:
    assert desk.info is not None
    with restored.load_held(desk.info):
        child = desk.spawn(*WORDS, f"--jobs={jobs}")
        wait_until(lambda: restored.loading(desk.info))  # type: ignore[arg-type]
        tools = [pid for pid in _descendants(child.pid) if _name(pid) == "pg_restore"]
        chosen = [pid for pid in tools if (_name(_parent(pid)) == "pg_restore") == (whom == "worker")]
        for pid in chosen:
            os.kill(pid, number)
        code, err = ended(child)
        assert code == 20, err
        assert "pg_restore" in err
    assert_as_before(desk)


def _descendants(pid: int) -> list[int]:
    found = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _numbers(task / "children")]
    return found + [each for child in found for each in _descendants(child)]


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_loading_sessions_are_ended(desk: Desk) -> None:
    assert desk.info is not None
    with restored.load_held(desk.info):
        child = desk.spawn(*WORDS)
        wait_until(lambda: restored.loading(desk.info))  # type: ignore[arg-type]
        end_sessions(desk, "query like 'COPY public.held %'")
        code, err = ended(child)
    assert code == 4, err
    assert "terminating connection" in err
    assert_as_before(desk)


def test_the_session_that_holds_the_lock_is_ended(desk: Desk) -> None:
    """Somebody else may be restoring by then: it must not go on to swap."""
    assert desk.info is not None
    with restored.load_held(desk.info):
        child = desk.spawn(*WORDS)
        wait_until(lambda: restored.loading(desk.info))  # type: ignore[arg-type]
        end_sessions(desk, f"application_name like 'naap_ops restore {child.pid}@%'")
    code, err = ended(child)
    assert code == 4, err
    assert_as_before(desk)


def test_the_swapping_session_is_ended(desk: Desk) -> None:
    assert desk.info is not None
    with restored.swap_held(desk.info):
        child = desk.spawn(*WORDS, environ=PATIENCE)
        wait_until(lambda: restored.swapping(desk.info))  # type: ignore[arg-type]
        end_sessions(desk, "application_name = 'naap_ops swap'")
        code, err = ended(child)
        assert code in (4, 17), err
    assert_as_before(desk)


def test_clients_get_in_while_it_waits_for_somebody_elses_lock(desk: Desk) -> None:
    """New connections queue behind the rename: were it to wait for its whole patience, so would they."""
    assert desk.info is not None
    with restored.swap_held(desk.info) as holder:
        child = desk.spawn(*WORDS, environ=PATIENCE)
        for _ in range(3):
            wait_until(lambda: restored.swapping(desk.info), poll=0.002)  # type: ignore[arg-type]
            with closing(connect(desk.info.with_params(connect_timeout="20"))) as client:
                assert client.execute("select w from word").fetchone() == ("new",)
        holder.rollback()
        code, err = ended(child)
    assert code == 0, err
    assert desk.ask("select w from word") == "old"


def test_the_watching_session_is_ended(desk: Desk) -> None:
    """Without it nobody is sent away; where nobody is there, the swap succeeds all the same."""
    assert desk.info is not None
    with restored.swap_held(desk.info) as holder:
        child = desk.spawn(*WORDS, environ=PATIENCE)
        wait_until(lambda: restored.swapping(desk.info))  # type: ignore[arg-type]
        end_sessions(desk, "application_name = 'naap_ops swap watch'")
        holder.rollback()
        code, err = ended(child)
    assert code == 0, err
    assert desk.ask("select w from word") == "old"
    assert restored.ours(desk.info, "restore") == []


def test_the_server_crashes_during_the_load(mortal: ScratchServer, mortal_desk: Desk) -> None:
    assert mortal_desk.info is not None
    with restored.load_held(mortal_desk.info):
        child = mortal_desk.spawn(*WORDS)
        wait_until(lambda: restored.loading(mortal_desk.info))  # type: ignore[arg-type]
        mortal.kill()
        code, err = ended(child)
        mortal.start()
    assert code == 4, err
    assert mortal_desk.ask("select w from word") == "new"
    assert len(restored.ours(mortal_desk.info, "restore")) == 1  # nobody could drop it
    again = mortal_desk.run(*WORDS, "--json")
    assert again.code == 0, again.err
    assert mortal_desk.ask("select w from word") == "old"
    assert restored.ours(mortal_desk.info, "restore") == []


@pytest.mark.parametrize("crash", [True, False], ids=["crash", "shutdown"])
def test_the_server_goes_down_during_the_swap(mortal: ScratchServer, mortal_desk: Desk, crash: bool) -> None:
    assert mortal_desk.info is not None
    with restored.swap_held(mortal_desk.info):
        child = mortal_desk.spawn(*WORDS, environ=PATIENCE)
        wait_until(lambda: restored.swapping(mortal_desk.info))  # type: ignore[arg-type]
        mortal.kill() if crash else mortal.stop()
        code, err = ended(child)
    mortal.start()
    assert code == 4, err
    assert mortal_desk.ask("select w from word") == "new"
    assert restored.ours(mortal_desk.info, "before") == []
    assert mortal_desk.run(*WORDS).code == 0
    assert mortal_desk.ask("select w from word") == "old"
    assert restored.ours(mortal_desk.info, "restore") == []


def test_a_server_that_comes_back_while_it_is_loading(mortal: ScratchServer, mortal_desk: Desk) -> None:
    """Up again before the restore looks: what was half-loaded is gone or swept, never swapped in."""
    assert mortal_desk.info is not None
    child = mortal_desk.spawn(*WORDS)
    with restored.load_held(mortal_desk.info):
        wait_until(lambda: restored.loading(mortal_desk.info))  # type: ignore[arg-type]
        os.killpg(child.pid, signal.SIGSTOP)
        mortal.kill()
        mortal.start()
        os.killpg(child.pid, signal.SIGCONT)
        code, err = ended(child)
    assert code == 4, err
    assert_as_before(mortal_desk)
