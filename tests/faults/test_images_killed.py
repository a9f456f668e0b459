"""SIGKILL while rows are captured, fetched out of a backup, or put back: nothing is lost, and it can be gone on with."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests.desk import Run
from tests.dying import AT, shadows_gone
from tests.faults.test_rollback_killed import SUICIDE, gone_on
from tests.integration.prisma.conftest import INIT, PROFILE, WALLET, Site, site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_images import DESTROYS, LOSSY, SHOP, contents, images, shop

pytestmark = [pytest.mark.also(15, 18), pytest.mark.long]

__all__ = ["shop", "site"]

BACK = ("rollback", "--migration", "latest", "--strategy", "reverse", "--yes")


@pytest.fixture(autouse=True)
def _no_shadow_stays(any_server: ScratchServer) -> Iterator[None]:
    with shadows_gone(any_server):
        yield


def dying(site: Site, when: str, place: str, *words: str) -> Run:
    done = site.program("-c", AT, when, place, *words, argv0=(sys.executable,))
    assert done.code == -signal.SIGKILL, done.err
    return done


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ("after", "naap_ops.deploys.capture:Capturing.before"),
        ("before", "naap_ops.deploys.capture:Capturing.after"),
        ("after", "naap_ops.deploys.capture:Capturing.after"),
    ],
)
def test_a_deploy_that_dies_while_it_captures_has_changed_nothing(shop: Site, when: str, place: str) -> None:
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    dying(shop, when, place, "deploy", "--yes", "--no-backup")
    assert contents(shop) == was
    assert images(shop) == 0


@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize("place", ["naap_ops.rollback.rehydrating:replay", "naap_ops.rollback.rehydrating:_copy"])
def test_a_rollback_that_dies_while_it_fetches_rows(shop: Site, place: str, how: str) -> None:
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    deploy(shop, "--no-capture")
    now = contents(shop)
    dying(shop, "after", place, *BACK)
    assert contents(shop) == now
    assert gone_on(shop, how) == how
    assert contents(shop) == (was if how == "resume" else now)
    assert images(shop) == 0


@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize("at", [25, 40, 55])
def test_a_rollback_that_dies_while_rows_come_back(shop: Site, at: int, how: str) -> None:
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    deploy(shop)
    now = contents(shop)
    done = shop.program("-c", SUICIDE, str(at), *BACK, argv0=(sys.executable,))
    assert done.code == -signal.SIGKILL, done.err
    went = gone_on(shop, how)
    folders = sorted(path.name for path in shop.migrations.iterdir() if path.is_dir())
    if went == "abort" or LOSSY in folders:
        assert contents(shop) == now
        assert went == "abort" or images(shop) == 2
    else:
        assert contents(shop) == was
        assert folders == [INIT, PROFILE, WALLET, SHOP]
