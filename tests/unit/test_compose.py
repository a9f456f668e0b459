"""docker-compose.yml is what Compose understands. Needs a Compose program, not an engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.errors import CommandFailed

ROOT = Path(__file__).parents[2]


def _compose() -> list[str]:
    if shutil.which("docker"):
        try:
            process.run(["docker", "compose", "version"])
        except CommandFailed:
            pass
        else:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("neither `docker compose` nor docker-compose is installed")


def test_compose_accepts_the_file_and_names_the_database_as_the_guides_do() -> None:
    _, output, _ = process.run([*_compose(), "-f", str(ROOT / "docker-compose.yml"), "config"])
    text = output.decode()
    assert "container_name: naap-db" in text
    assert "image: postgres:16" in text
