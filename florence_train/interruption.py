"""A request to stop: SIGTERM from a scheduler, or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

EXIT_CODE = 75
"""Of a run that saved a checkpoint and stopped on request; sysexits.h has it as EX_TEMPFAIL, to be
tried again later."""


class StopRequest:
    """While it is entered, the first SIGTERM or SIGINT is noted; a second one acts as usual."""

    made = False

    def __init__(self) -> None:
        self._usual: dict[int, object] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        signal.signal(number, self._usual[number])  # type: ignore[arg-type]

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, usual in self._usual.items():
            signal.signal(number, usual)  # type: ignore[arg-type]
