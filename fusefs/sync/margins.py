"""How long a remote keeps what the store does not need any more: every number with its reason."""

from dataclasses import dataclass

_DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Margins:
    """Of what is deleted in a remote.

    `keep_newest`: checkpoints that stay whatever their age: who clones one may take a while, and
    the newest may turn out to be damaged. `keep_days`: of each of so many days before the newest
    checkpoint, the last one stays, so that what was destroyed by mistake some days ago is there in
    an older one. `min_age_s`: what is younger is never deleted, as somebody may have put it and not
    named it yet; it is far more than clocks of different machines differ. `every_s`: how often this
    is looked after by itself: a store that changes all day makes some thousand checkpoints of it.
    `hold_s`: for which nothing is sent while somebody tidies up, should they not come to the end.
    """

    keep_newest: int = 5
    keep_days: int = 7
    min_age_s: float = _DAY_S
    every_s: float = _DAY_S
    hold_s: float = 600.0


DEFAULT = Margins()
