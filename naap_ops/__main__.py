"""``python -m naap_ops``: the program. With ``--leashed`` as its first word it ends when its standard input does.

So a job does not outlive the scheduler that started it and holds the other end, however that ended: a leftover snapshot would
run beside the one of the scheduler that took over. Ctrl-C is left to the scheduler, which passes it on as SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from naap_ops.cli import main


def _leash(end: int) -> None:
    while os.read(end, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["--leashed"]:
        del words[0]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_leash, args=(os.dup(0),), daemon=True).start()
    main(["naap-ops", *words])
