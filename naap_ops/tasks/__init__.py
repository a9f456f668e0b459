"""The Invoke namespace. Task modules import nothing heavy: `invoke --list` must be quick."""

from __future__ import annotations

from invoke.collection import Collection

from naap_ops.tasks import backup, config, demo, restore

ns = Collection(config.config, demo.demo, backup=backup.collection, restore=restore.collection)
