"""Row ``fetched``: what a restore of a part brings over from S3, against the bytes of its files and the table of contents.

Counted are all the bytes that the store sends, by a relay before it: headers, listings, the manifest and the records included.
"""

from __future__ import annotations

from typing import Any

from bench.figures import Line
from bench.lab import LIVE, Lab, Options
from bench.sample import SMALL, share
from bench.store import Store, encryption

WANTED = 1.05
_MAJORS = (16,)


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    with Store() as store:
        for major in options.each_major(*_MAJORS):
            with Lab(options, major) as lab:
                lines += _one(lab, store, {}, "")
                lines += _one(lab, store, encryption(lab.by_hand), ", encrypted")
    return lines


def _one(lab: Lab, store: Store, extra: dict[str, str], how: str) -> list[Line]:
    parts = {
        f"--table {SMALL} ({share(lab.info(), SMALL):.1%} of the bytes)": ("--table", SMALL),
        "--tenant acme": ("--tenant", "acme"),
        "--schema plugin_wallet": ("--schema", "plugin_wallet"),
    }
    with store.bucket() as bucket, store.relay() as relay:
        env = store.environment(bucket, through=relay) | extra
        done = lab.ops("snapshot", "--jobs", str(lab.options.jobs), env=env).checked()
        manifest = store.manifest(bucket, done.result)
        lines = []
        for what, words in parts.items():
            before = relay.sent_back
            lab.ops("restore", "--backup", done.result["id"], *words, "--yes", env=env).checked()
            lines.append(_line(f"{what}{how}, PostgreSQL {lab.major}", relay.sent_back - before, _needed(manifest, words)))
            _forget_old(lab)
    return lines


def _needed(manifest: dict[str, Any], words: tuple[str, str]) -> int:
    """Bytes of the part's files and of the table of contents, as they are stored."""
    flag, name = words
    stored = {file["path"]: file.get("stored", file)["bytes"] for file in manifest["files"]}
    wanted = {"--table": name, "--tenant": f"tenant_{name}", "--schema": name}[flag]
    names = (table["file"] for table in manifest["tables"] if wanted in (table["schema"], f"{table['schema']}.{table['name']}"))
    files = {name for name in names if name}
    return sum(int(stored[name]) for name in files) + int(stored[f"{manifest['archive']}/toc.dat"])


def _line(what: str, fetched: int, needed: int) -> Line:
    return Line(
        row="fetched",
        measure=f"bytes fetched from S3 / of the files and the table of contents, restore {what}",
        ours=f"{fetched / 1e6:.3f} MB",
        theirs=f"{needed / 1e6:.3f} MB",
        ratio=f"{fetched / needed:.3f}",
        wanted=f"<= {WANTED:.2f}",
        met=fetched <= needed * WANTED,
        details={"fetched": fetched, "needed": needed},
    )


def _forget_old(lab: Lab) -> None:
    """Drop what the restores have kept."""
    lab.drop(*lab.databases(f"{LIVE}__"))
    kept = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\\_\\_before\\_%' OR nspname LIKE 'naap_ops_%'"
    for (name,) in lab.execute(kept):
        lab.execute(f'DROP SCHEMA "{name}" CASCADE')
