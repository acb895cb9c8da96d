"""How long the sync rests after each object, so that the users of the mount come first.

A low priority gives way in the processor. It does not in what processors share: the bandwidth of
memory, caches, and the place beside the daemon where the user's program would run. So while there
are requests the agent works for a part of the time only.
"""

import time

#: Where users are at work: rest for so many times the processor time that was used, at most so
#: long.
REST, LONGEST_S = 4.0, 1.0


class Pace:
    """The pace of one remote. It counts the time of the whole process, so that several remotes
    together take no more than one."""

    def __init__(self) -> None:
        self._answered = 0
        self._used_s = time.process_time()

    def rest_s(self, answered: int) -> float:
        """How long to rest for what was done since the last call. `answered`: requests of users
        since the mount."""
        before, self._answered = self._answered, answered
        used_s, self._used_s = self._used_s, time.process_time()
        return min((self._used_s - used_s) * REST, LONGEST_S) if answered > before else 0.0
