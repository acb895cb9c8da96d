"""How long background work rests after each slice, so that requests come first."""

from collections.abc import Callable

#: After a slice the loop belongs to requests for so many times as long, if there are any lately:
#: leaves them 11/12 of it. Else a rest is for those that may come.
REST, SHORT_REST = 11.0, 1.0


class Pace:
    """The pace of one worker. `count_requests`: those that the face has answered so far."""

    def __init__(self, count_requests: Callable[[], int]) -> None:
        self._count_requests = count_requests
        self._answered = 0

    def rest_s(self, worked_s: float) -> float:
        """How long to rest after having worked so long."""
        before, self._answered = self._answered, self._count_requests()
        return worked_s * (REST if self._answered > before else SHORT_REST)
