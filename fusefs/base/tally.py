"""What is counted while a store is served: numbers that only grow, from 0 at its opening.

Whoever does the thing adds to its number. Names and help for people stand in `daemon.metrics`.
"""

from dataclasses import dataclass


@dataclass
class Tally:
    """`requests`: of the kernel that were answered, but for those that end the use of something.

    `bytes_received`: what writes among them carried. `fsyncs`: those among them that were kept.
    """

    requests: int = 0
    bytes_received: int = 0
    fsyncs: int = 0
