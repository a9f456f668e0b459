"""Services stopped and started: by the configured commands, else by the operator, who is asked and waited for.

Nobody can ask the world whether they are stopped, so the journal is believed; the commands must be harmless to run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naap_ops.procedure.step import Step

if TYPE_CHECKING:
    from naap_ops.config.settings import ServicesSettings
    from naap_ops.rollback.commands import Surroundings

STOP, START = "services_stop", "services_start"


class _Services(Step):
    def __init__(self, name: str, text: str, settings: ServicesSettings, around: Surroundings) -> None:
        super().__init__(name, text)
        self._settings = settings
        self._around = around

    def done(self) -> bool:
        return self._around.journal.state(self.name) == "done"

    def halfway(self) -> bool:
        return True  # a command that failed may have stopped some of them

    def _stop(self) -> dict[str, Any]:
        return self._carried_out(self._settings.stop, "Stop the services that use the database")

    def _start(self) -> dict[str, Any]:
        return self._carried_out(self._settings.start, "Start the services again")

    def _carried_out(self, argv: list[str], request: str) -> dict[str, Any]:
        if argv:
            self._around.run(self.name, argv, self._settings.timeout.total_seconds())
            return {"by": "command"}
        if self._around.operator.ask is not None:
            self._around.operator.ask(f"{request}, then press Enter")
            return {"by": "operator"}
        self._around.operator.tell(f"left to you: {request[0].lower()}{request[1:]}")
        return {"by": "nobody"}


class StopServices(_Services):
    """``undo`` starts them."""

    def __init__(self, settings: ServicesSettings, around: Surroundings) -> None:
        super().__init__(STOP, "stop the services", settings, around)

    def run(self) -> dict[str, Any]:
        return self._stop()

    def undo(self) -> dict[str, Any]:
        return self._start()


class StartServices(_Services):
    """``undo`` stops them again: what comes before it is undone without them."""

    def __init__(self, settings: ServicesSettings, around: Surroundings) -> None:
        super().__init__(START, "start the services", settings, around)

    def run(self) -> dict[str, Any]:
        return self._start()

    def undo(self) -> dict[str, Any]:
        return self._stop()
