"""The only door to subprocess: argv in, a checked exit status out.

Children stay in the caller's process group, so that Ctrl-C and a kill of the group reach them too. Standard error is read
by a thread and its tail kept for the error message; ``on_stderr`` sees each line as it comes. The child's end is the end of
it, whoever else holds the pipe: the workers of a pg_restore that was killed go on until their statements are through.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from naap_ops import redact
from naap_ops.errors import CommandFailed, ToolMissing

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
PIPE_BYTES = 1 << 20  # Linux's default of 64 KiB costs a context switch per 64 KiB
_TAIL_LINES = 40
_GRACE_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_READ_BYTES = 1 << 16

# A locale of our own: messages of the tools are matched as text.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LANGUAGE": "C", "PGTZ": "UTC"}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without its PG* variables, with ``extra`` on top."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("PG") or k in ("PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR")
    }
    return {**kept, **_ENVIRONMENT, **(extra or {})}


class Child:
    """A running command. As a context manager it never outlives the block: leaving by an exception ends it."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = DEVNULL,
        stdout: int | IO[bytes] | None = DEVNULL,
        cwd: Path | None = None,
        on_stderr: Callable[[str], None] | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        self.argv = [str(word) for word in argv]
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._on_stderr = on_stderr
        self._listener_error: Exception | None = None
        try:
            self._popen = subprocess.Popen(
                self.argv,
                env=environment(env),
                stdin=stdin,
                stdout=stdout,
                stderr=PIPE,
                cwd=cwd,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise ToolMissing(tool=self.argv[0], major="?", searched=str(error)) from None
        for pipe in (self._popen.stdin, self._popen.stdout):
            _enlarge(pipe)
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self._popen.stdin is not None
        return self._popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._popen.stdout is not None
        return self._popen.stdout

    @property
    def stderr_tail(self) -> str:
        return "\n".join(self._tail)

    def _read_stderr(self) -> None:
        """The reader thread. It closes the pipe itself: a grandchild may hold the other end long after the child's end."""
        assert self._popen.stderr is not None
        with self._popen.stderr as pipe:
            begun = b""
            for piece in self._pieces(pipe.fileno()):
                *lines, begun = (begun + piece).split(b"\n")
                for raw in lines:
                    self._hear(redact.text(raw.decode("utf-8", "replace")))
            if begun:
                self._hear(redact.text(begun.decode("utf-8", "replace")))

    def _pieces(self, pipe: int) -> Iterator[bytes]:
        """What comes through the pipe until its end, or until the child has ended and nothing of it is left there."""
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while True:
            ended = self._popen.returncode is not None  # asked first: what it wrote before its end is in the pipe by now
            if poll.poll(_LOOK_SECONDS * 1000):
                piece = os.read(pipe, _READ_BYTES)
                if not piece:
                    return
                yield piece
            elif ended:
                return

    def _hear(self, line: str) -> None:
        self._tail.append(line)
        if self._on_stderr is None or self._listener_error is not None:
            return  # go on reading whatever happens: a full pipe would stop the child for ever
        try:
            self._on_stderr(line)
        except Exception as error:  # noqa: BLE001 - raised again in wait(), on the caller's own thread
            self._listener_error = error

    def wait(self) -> int:
        """Wait for the end; the exit status, negative for a signal."""
        status = self._popen.wait()
        self._reader.join(_GRACE_SECONDS)
        if self._listener_error is not None:
            raise self._listener_error
        return status

    def poll(self) -> int | None:
        return self._popen.poll()

    def check(self) -> None:
        """Wait, and raise CommandFailed unless the status is 0."""
        status = self.wait()
        if status != 0:
            raise self.failure(status)

    def failure(self, status: int) -> CommandFailed:
        return CommandFailed(
            tool=Path(self.argv[0]).name,
            argv=shlex.join(redact.argv(self.argv)),
            status=status,
            stderr=self.stderr_tail or "(it said nothing)",
        )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stopped (SIGSTOP) for the length of the block. Should we die in it, it gets SIGHUP, as orphaned groups do (POSIX)."""
        self._popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._popen.send_signal(signal.SIGCONT)

    def stop(self, grace: float | None = None) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds, ten unless told. Harmless on a finished child."""
        if self._popen.poll() is None:
            self._popen.terminate()
            self._popen.send_signal(signal.SIGCONT)  # a stopped process gets no other signal
            try:
                self._popen.wait(_GRACE_SECONDS if grace is None else grace)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.stop()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if kind is None:
            self.wait()
        self._reader.join(_GRACE_SECONDS)


def start(argv: Sequence[str | Path], **options: Any) -> Child:
    """Start a command; see :class:`Child` for the options."""
    return Child(argv, **options)


def run(
    argv: Sequence[str | Path], *, input: bytes | None = None, check: bool = True, **options: Any
) -> tuple[int, bytes, str]:
    """Run to the end: ``(status, stdout, stderr tail)``. Raises CommandFailed on a bad status if ``check``.

    The output is held in memory: for lists and version lines, not for dumps.
    """
    with Child(argv, stdin=PIPE if input is not None else DEVNULL, stdout=PIPE, **options) as child:
        if input is not None:
            feeder = threading.Thread(target=_feed, args=(child, input), daemon=True)
            feeder.start()
        output = child.stdout.read()
        status = child.wait()
        if input is not None:
            feeder.join(_GRACE_SECONDS)  # or it might write to a pipe closed under it
        if check and status != 0:
            raise child.failure(status)
        return status, output, child.stderr_tail


def _enlarge(pipe: IO[bytes] | None) -> None:
    """Make a pipe larger where the system can and lets this user do so (pipe-user-pages-soft)."""
    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _feed(child: Child, data: bytes) -> None:
    try:
        child.stdin.write(data)
        child.stdin.close()
    except BrokenPipeError:
        pass  # the child's own exit status tells what happened
