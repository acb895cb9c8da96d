"""When space is given back, how much of it, and at what pace: every number, with its reason.

The promise behind them: some time after something was removed for good, the segments are at most
5 % larger than what is needed of them, and nobody has noticed how they became so.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Margins:
    """Parts are of 1. The defaults are what a mount works with; tests take others."""

    #: A collection ends when no more than this part of the needed bytes is of no use in the
    #: segments left alone. Below the promised 5 %, because its own records come on top.
    slack: float = 0.04
    #: And it never begins for less than this: the copy of the index alone is as long.
    least_bytes: int = 64 << 10

    #: Between two looks at whether there is something to do. Mostly a look compares two numbers.
    look_every_s: float = 10.0
    #: By itself a collection begins when more than this part of the needed bytes is of no use ...
    worth_dead: float = 0.05
    #: ... and it frees more than this, and more than the index is long: each makes a copy of it.
    worth_bytes: int = 4 << 20
    #: Segments of which this part is of no use are collected at any time: to free a byte, less
    #: than one must be written.
    mostly_dead: float = 0.5
    #: All others only when nothing was written or freed for so long. In a busy store what is of
    #: use in them now may not be in a minute, and was moved for nothing.
    quiet_s: float = 60.0
    #: A segment that could not be read or deleted is tried again by itself after so long. It takes
    #: a person to help it, and every try costs a copy of the index.
    retry_s: float = 3600.0

    #: Segments are ended early, for remotes or by an idle log. Below this they are small ...
    small_bytes: int = 1 << 20
    #: ... and so many of them are merged: each costs a file here and an object in each remote ...
    merge_least: int = 64
    #: ... or one for so much of the index, of which a merge makes a copy as well ...
    merge_index_bytes: int = 64 << 10
    #: ... but so many are always enough.
    merge_enough: int = 2048
    #: Of one merge: what is moved is sent to the remotes again.
    merge_bytes: int = 64 << 20

    #: Segments are deleted together, after one checkpoint and one copy of the index, when they
    #: free this much, and more than the index is long ...
    delete_bytes: int = 64 << 20
    #: ... or when what was moved out of them has taken this part of the disk's free space.
    tight_part: float = 0.25

    #: The loop belongs to requests: this much is moved in one go (about 2 ms) ...
    slice_bytes: int = 1 << 20
    #: ... of no more blocks than this (about 5 ms) ...
    slice_blocks: int = 500
    #: ... and then comes a pause, where nobody waits for the result.
    pause_s: float = 0.05


DEFAULT = Margins()
