"""What a procedure is made of. A step asks the world, not the journal, whether it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Step(ABC):
    """One step. ``name`` is unique in its procedure; ``text`` says to people what it does.

    Every method may be called again after a crash at any instant of an earlier call.
    """

    changes: ClassVar[bool] = True
    """Whether it leaves anything that an abort would have to undo."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    @abstractmethod
    def done(self) -> bool:
        """Whether the world is as after :meth:`run`."""

    @abstractmethod
    def run(self) -> dict[str, Any] | None:
        """Do it, or finish what an earlier run began. Facts for the journal, ready for JSON."""

    def undo(self) -> dict[str, Any] | None:
        """Make the world as it was before :meth:`run`, however far that came. Facts for the journal. By default nothing."""
        return None

    def halfway(self) -> bool:
        """Whether a run that failed has left something behind. By default a failed run leaves nothing."""
        return False
