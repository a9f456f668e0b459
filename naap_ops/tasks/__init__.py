"""The Invoke namespace. Task modules import nothing heavy: `invoke --list` must be quick."""

from __future__ import annotations

from invoke.collection import Collection

from naap_ops.tasks import (
    backup,
    check,
    config,
    demo,
    deploy,
    drift,
    drill,
    emergency,
    guard,
    lint,
    reapply,
    reset,
    resolve,
    restore,
    reverse,
    rollback,
    salvage,
    schedule,
    snapshot,
    status,
    untrack,
)

ns = Collection(
    check.check,
    config.config,
    demo.demo,
    deploy.deploy,
    drift.drift,
    drill.drill,
    emergency.emergency,
    guard.guard,
    lint.lint,
    reapply.reapply,
    rollback.rollback,
    reset.reset,
    resolve.resolve,
    salvage.salvage,
    snapshot.snapshot,
    status.status,
    untrack.untrack,
    backup=backup.collection,
    restore=restore.collection,
    reverse=reverse.collection,
    schedule=schedule.collection,
)
