"""Work beside a block of code, on a thread of its own that ends with it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """Between ``__enter__`` and ``__exit__``, which waits for it, :meth:`work` runs; it looks at ``stop`` often."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    @abstractmethod
    def work(self) -> None:
        """What is done until ``stop`` is set. It must not raise: nobody would hear."""
