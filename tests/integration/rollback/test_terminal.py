"""Somebody at a terminal: the plan is read, the name is typed, and what no command does is asked for and waited for."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import emergencies
from tests.desk import PROGRAM
from tests.emergencies import Scene
from tests.hearing import recording
from tests.integration.prisma.conftest import INIT, PROFILE, WALLET

STOP, START = "Stop the services that use the database, then press Enter: ", "Start the services again, then press Enter: "


@pytest.fixture
def scene(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(any_server, tmp_path) as scene:
        yield scene


class Terminal:
    """The program on a terminal of its own. ``seen``: all that it has shown so far."""

    def __init__(self, scene: Scene, *words: str) -> None:
        self.master, slave = pty.openpty()
        environ = {**scene.environ, "TERM": "dumb", "COLUMNS": "300"}
        self.child = subprocess.Popen(
            [PROGRAM, *words], cwd=scene.folder, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.hang_up()

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def until(self, text: str, *, seconds: float = 60.0) -> None:
        """Read on until ``text`` is shown."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode().replace("\r\n", "\n")
                except OSError:  # Linux, once nobody has it open any more
                    break
        assert text in self.seen, self.seen

    def type(self, text: str) -> None:
        os.write(self.master, f"{text}\n".encode())

    def end(self) -> int:
        while True:
            try:
                self.seen += os.read(self.master, 65536).decode().replace("\r\n", "\n")
            except OSError:
                return self.child.wait(timeout=60)


def test_an_emergency_asks_and_waits(scene: Scene) -> None:
    assert scene.info is not None
    with recording() as service, Terminal(scene, "emergency", "--migration", "wallet") as terminal:
        scene.settings(f'[notify]\nurls = ["json://{service.address}/hook"]\nstate = "state"\n')
        terminal.until(f"Type {scene.info.dbname} to go on: ")
        scene.assert_before()
        terminal.type(str(scene.info.dbname))
        terminal.until(STOP)
        assert scene.folders == [INIT, PROFILE, WALLET]  # nothing before they are stopped, but that nobody comes in
        assert not scene.accepts()
        assert not scene.reached("services_stop", "done")
        terminal.type("")
        terminal.until(START)
        scene.assert_taken_back()  # and open again: they would not start otherwise
        assert not scene.reached("services_start", "done")
        terminal.type("")
        assert terminal.end() == 0, terminal.seen
    assert f"{WALLET} taken back by backup" in terminal.seen
    [(_, body)] = service.heard
    told = json.loads(body)
    assert told["title"].endswith(f"emergency of {scene.info.dbname} ok")
    assert f"{WALLET} taken back by backup" in told["message"]
    assert "2 rows of public.User" in told["message"]


def test_another_name_is_a_no(scene: Scene) -> None:
    with Terminal(scene, "emergency", "--migration", "wallet") as terminal:
        terminal.until("to go on: ")
        terminal.type("naap_production")
        assert terminal.end() == 17, terminal.seen
    scene.assert_before()
    assert scene.journals() == []


def test_a_terminal_that_goes_leaves_it_to_be_gone_on_with(scene: Scene) -> None:
    """The laptop is closed while the services are to be started: another one ends it."""
    assert scene.info is not None
    with Terminal(scene, "emergency", "--migration", "wallet") as terminal:
        terminal.until("to go on: ")
        terminal.type(str(scene.info.dbname))
        terminal.until(STOP)
        terminal.type("")
        terminal.until(START)
        terminal.hang_up()
        terminal.child.wait(timeout=60)
        assert terminal.child.returncode != 0
    assert not scene.reached("services_start", "done")
    ended = scene.run("emergency", "--resume", "--yes", "--json")
    assert ended.code == 0, ended.err
    assert "left to you: start the services again" in ended.err
    scene.assert_taken_back()
