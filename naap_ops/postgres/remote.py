"""Running client tools where the server is: through ``docker exec -i``, ``podman exec -i``, ``kubectl exec -i ... --``.

Nothing travels by inherited environment or by shared files there, and argv is public. So one small shell script goes in front
of the tool: what is public (user, database) are words of its argv, what is not (the password) and files the tool wants to read
come as a preamble on its standard input. The rest of standard input and all of standard output belong to the tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from naap_ops.errors import ConfigurationError

FILES = "@files/"
"""A word of the tool's arguments that begins so stands for the path of that file of the preamble."""

# POSIX sh and dd only (dash, busybox ash). `read` takes single bytes from a pipe and so leaves the rest for those after it.
# dd with bs=1 is exact everywhere but slow (a second per MB); fullblock is exact and fast where it is known.
# Without files the tool replaces the shell; with files the shell stays to remove them.
SCRIPT = r"""
set -eu
umask 077
while [ "$1" != -- ]; do export "$1"; shift; done
shift
IFS= read -r secret
if [ -n "$secret" ]; then export PGPASSWORD="$secret"; fi
secret=
IFS= read -r files
[ "$files" -gt 0 ] || exec "$@"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
full=
if dd iflag=fullblock bs=1 count=0 </dev/null >/dev/null 2>&1; then full=yes; fi
while [ "$files" -gt 0 ]; do
  IFS= read -r name
  IFS= read -r size
  if [ "$size" -eq 0 ]; then : >"$place/$name"
  elif [ -n "$full" ]; then dd iflag=fullblock bs="$size" count=1 >"$place/$name" 2>/dev/null
  else dd bs=1 count="$size" >"$place/$name" 2>/dev/null
  fi
  [ "$(wc -c <"$place/$name")" -eq "$size" ] || { echo "incomplete file $name" >&2; exit 1; }
  files=$((files - 1))
done
left=$#
while [ "$left" -gt 0 ]; do
  word=$1
  shift
  case $word in @files/*) word=$place/${word#@files/} ;; esac
  set -- "$@" "$word"
  left=$((left - 1))
done
"$@"
"""

# What of a connection means the same at the other end. Certificates, services and password files are paths of this machine.
_ALWAYS = ("PGUSER", "PGDATABASE", "PGAPPNAME", "PGOPTIONS", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING")
_WITH_HOST = ("PGSSLMODE", "PGSSLNEGOTIATION", "PGCHANNELBINDING", "PGREQUIREAUTH", "PGTARGETSESSIONATTRS")
_LOCALE = ("LC_ALL=C.UTF-8", "LANGUAGE=C", "PGTZ=UTC")
_FILE_NAME = re.compile(r"[A-Za-z0-9._-]+")


def environment_words(tool_env: Mapping[str, str], *, host: str | None, port: int | None) -> list[str]:
    """``NAME=value`` words for the other end. Without ``host`` its tools use their own default, usually the local socket."""
    known = {name: tool_env[name] for name in (*_ALWAYS, *(_WITH_HOST if host else ())) if name in tool_env}
    if host:
        known["PGHOST"] = host
    if port is not None:
        known["PGPORT"] = str(port)
    return [*_LOCALE, *(f"{name}={value}" for name, value in known.items())]


def argv(prefix: Sequence[str], environment: Sequence[str], tool: str, args: Sequence[str]) -> tuple[str, ...]:
    """The whole command: prefix, shell, script, environment, tool."""
    return (*prefix, "sh", "-c", SCRIPT, "sh", *environment, "--", tool, *args)


def preamble(password: str | None, files: Mapping[str, bytes]) -> bytes:
    """What goes to standard input first: the password's line, the number of files, and name, size and bytes of each.

    Raises ConfigurationError for a password that is more than one line.
    """
    if password and ("\n" in password or "\0" in password):
        raise ConfigurationError(detail="a password with a line break cannot be sent through tools.exec")
    parts = [(password or "").encode() + b"\n", b"%d\n" % len(files)]
    for name, content in files.items():
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"not a plain file name: {name!r}")
        parts.append(b"%s\n%d\n%s" % (name.encode(), len(content), content))
    return b"".join(parts)
