"""A pod that runs the real `migrate deploy` back to back, from an image of its own that still has the folder, all the while.

Whoever holds Prisma's lock keeps it out; what happens afterwards is what the books say: with --hold it has nothing to do, and
without it deploys the migration again, which is why --hold is there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import emergencies
from tests.desk import wait_until
from tests.emergencies import Scene
from tests.integration.prisma.conftest import INIT, PROFILE, WALLET, Site
from tests.prisma.engines import EACH_GENERATION, Prisma

pytestmark = pytest.mark.long

LOCKED = "P1002"


@dataclass
class Pod:
    """``answers``: of each deploy in turn, names that it applied or why it did not."""

    prisma: Prisma
    answers: list[str | list[str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        while not self.ended.is_set():
            try:
                self.answers.append(self.prisma.deploy())
            except (AssertionError, json.JSONDecodeError) as error:  # it was cut off, and says so in words of its own
                self.answers.append(f"cut off: {error}")

    def go_round(self) -> None:
        """Wait for a deploy that is begun from now on, and for its end."""
        seen = len(self.answers)
        wait_until(lambda: len(self.answers) >= seen + 2)

    @property
    def applied(self) -> list[str]:
        return [name for answer in self.answers if isinstance(answer, list) for name in answer]

    @property
    def refusals(self) -> set[str]:
        return {answer for answer in self.answers if isinstance(answer, str)}


@contextlib.contextmanager
def pod(prisma: Prisma, folder: Path) -> Iterator[Pod]:
    """One with a checkout of its own, as the project is now, at work."""
    shutil.copytree(prisma.project, folder)
    pod = Pod(replace(prisma, project=folder))
    worker = threading.Thread(target=pod.work)
    worker.start()
    try:
        pod.go_round()
        yield pod
    finally:
        pod.ended.set()
        worker.join()


@pytest.fixture
def deployed(site: Site, prisma: Prisma) -> Site:
    """By Prisma itself, with the reverse of the last proved."""
    assert prisma.deploy() == [INIT, PROFILE, WALLET]
    assert site.run("reverse", "--migration", "wallet", "--from", "history").code == 0
    return site


def assert_held(site: Site, pod: Pod) -> None:
    """Gone from the database, not deployed again, and the pod has nothing against it."""
    assert (pod.applied, pod.refusals - {LOCKED}) == ([], set())
    assert pod.answers[-1] == []
    assert site.ask("select to_regclass('\"Wallet\"')::text") is None
    assert (site.rows(WALLET), (site.migrations / WALLET).exists()) == (1, False)
    assert pod.prisma.status() == "clean"


def assert_deployed_again(site: Site, pod: Pod) -> None:
    """Once, whole, and by the pod: the books are its own."""
    assert pod.applied == [WALLET]
    assert site.ask('select count(*) from "Wallet"') == 0
    assert (site.rows(WALLET), (site.migrations / WALLET).exists()) == (1, False)
    assert pod.prisma.status() == "clean"


def test_rollback_held(deployed: Site, prisma: Prisma, tmp_path: Path) -> None:
    with pod(prisma, tmp_path / "image") as busy:
        answer = deployed.program("rollback", "--migration", "wallet", "--hold", "--yes", "--json")
        assert answer.code == 0, answer.err
        busy.go_round()
    assert_held(deployed, busy)
    done = deployed.run("untrack", "--migration", WALLET, "--finalise", "--yes")
    assert done.code == 0, done.err
    assert prisma.deploy() == []
    assert prisma.status() == "clean"


def test_rollback(deployed: Site, prisma: Prisma, tmp_path: Path) -> None:
    """Kept out until the last look of the rollback, which therefore ends well; then the pod deploys what it carries."""
    with pod(prisma, tmp_path / "image") as busy:
        answer = deployed.program("rollback", "--migration", "wallet", "--yes", "--json")
        assert answer.code == 0, answer.err
        busy.go_round()
    assert_deployed_again(deployed, busy)
    assert busy.refusals <= {LOCKED}


@pytest.mark.parametrize("hold", [True, False])
def test_untrack(deployed: Site, prisma: Prisma, tmp_path: Path, hold: bool) -> None:
    deployed.sql('drop table "Wallet"')
    with pod(prisma, tmp_path / "image") as busy:
        answer = deployed.program("untrack", "--migration", "wallet", "--yes", "--json", *(["--hold"] if hold else []))
        assert answer.code == 0, answer.err
        busy.go_round()
    (assert_held if hold else assert_deployed_again)(deployed, busy)


# --- emergency --------------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(any_server, tmp_path) as scene:
        yield scene


def at(scene: Scene, generation: str, packages: Path) -> Prisma:
    assert scene.info is not None
    return Prisma(generation, packages, scene.project, scene.info)


def emergency(scene: Scene, *words: str) -> subprocess.CompletedProcess[str]:
    done = scene.program("emergency", "--migration", "wallet", "--yes", "--json", *words)
    return subprocess.CompletedProcess([], done.code, done.out, done.err)


@pytest.mark.parametrize("generation", EACH_GENERATION)
@pytest.mark.parametrize("commands", [True, False], ids=["commands", "refused"])
def test_emergency_held(scene: Scene, prisma_packages: Path, tmp_path: Path, generation: str, commands: bool) -> None:
    if commands:
        scene.commands()
    prisma = at(scene, generation, prisma_packages)
    with pod(prisma, tmp_path / "image") as busy:
        answer = emergency(scene, "--hold")
        assert answer.returncode == 0, answer.stderr
        busy.go_round()
    scene.assert_taken_back(held=True)
    assert busy.applied == []
    assert busy.answers[-1] == []
    assert prisma.status() == "clean" if generation == "6" else prisma.status() in ("clean", "ahead")


@pytest.mark.parametrize("generation", EACH_GENERATION)
def test_emergency(scene: Scene, prisma_packages: Path, tmp_path: Path, generation: str) -> None:
    """Without --hold it is deployed again from the swap on, and that is said: by the exit, or among what is left to do."""
    scene.commands()
    prisma = at(scene, generation, prisma_packages)
    with pod(prisma, tmp_path / "image") as busy:
        answer = emergency(scene)
        busy.go_round()
        assert busy.applied == [WALLET], busy.answers
        if answer.returncode == 23:
            assert "--hold" in answer.stderr
            aborted = scene.program("emergency", "--abort", "--yes")
            assert aborted.code == 0, aborted.err
            busy.go_round()
        else:
            assert answer.returncode == 0, answer.stderr
    assert busy.answers[-1] == []
    assert prisma.status() == "clean" if generation == "6" else prisma.status() in ("clean", "ahead")
    assert scene.books == [INIT, PROFILE, WALLET]
    if answer.returncode == 23:
        scene.assert_before()
    else:
        assert (scene.users, scene.folders) == (3, [INIT, PROFILE])
