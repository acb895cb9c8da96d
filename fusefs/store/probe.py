"""Can the index be read at all? Tried in a process of its own, because damage may crash it.

LMDB maps its file and trusts it: a file that was cut off ends the reader by SIGBUS, garbage may end
it by SIGSEGV or an assertion. Here that happens to a child (measured: 0.06 s, and 0.2 s for 500 000
rows), and the parent, which reads the same pages afterwards, can say what it was.
"""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from fusefs.errors import StoreDamaged
from fusefs.store.index import WAY_OUT, Index

_CODE = """
import sys
sys.path[:] = sys.argv[2:]
from fusefs.store.probe import read_all
read_all(sys.argv[1])
"""


def probe(index: Path) -> None:
    """Return if every row of the index at `index` can be read. Raises StoreDamaged."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CODE, os.fspath(index), *sys.path],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        errors="replace",
        process_group=0,  # Ctrl-C is the parent's, and no damage
        check=False,
    )
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        if done.returncode < 0:
            why = f"reading it ends in {signal.Signals(-done.returncode).name}"
        raise StoreDamaged(f"{index} is damaged ({why}): {WAY_OUT}")


def read_all(index: str) -> None:
    """What the child does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    opened = Index(Path(index), read_only=True)
    last = b""
    try:
        for key, _ in opened.scan(b""):
            if key <= last:
                sys.exit(f"key {key!r} is out of order")
            last = key
    except Exception as error:
        sys.exit(str(error))
