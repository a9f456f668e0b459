"""The Invoke namespace. Task modules import nothing heavy: `invoke --list` must be quick."""

from __future__ import annotations

from invoke.collection import Collection

from naap_ops.tasks import (
    backup,
    check,
    config,
    demo,
    drill,
    emergency,
    lint,
    restore,
    reverse,
    schedule,
    snapshot,
    status,
    untrack,
)

ns = Collection(
    check.check,
    config.config,
    demo.demo,
    drill.drill,
    emergency.emergency,
    lint.lint,
    snapshot.snapshot,
    status.status,
    untrack.untrack,
    backup=backup.collection,
    restore=restore.collection,
    reverse=reverse.collection,
    schedule=schedule.collection,
)
