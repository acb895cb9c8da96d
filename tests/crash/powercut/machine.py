"""Makes disks as power cuts left them, and looks at the store on each.

    python -m tests.crash.powercut.machine RUN SEED

makes the cut SEED of a run once more, of which a failed test left the directory RUN.
"""

import os
import sys
from pathlib import Path

from tests import launcher
from tests.conftest import ROOT
from tests.crash.powercut.rig import ext4_of
from tests.crash.powercut.runs import Run
from tests.crash.powercut.writelog import Cut, WriteLog, copy_image
from tests.launcher import Call

SURVEY_TIMEOUT_S = 300


class PowerFailed(AssertionError):
    """After a power cut the store was not as promised; says how to make that cut again."""


class Machine:
    """The cuts of one run; of one machine each must be at or behind the one before."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._log = WriteLog(run.log)
        self._sound = run.directory / "sound"
        self._until = 0
        copy_image(run.blank, self._sound)

    def cuts(self, first_seed: int, count: int) -> list[Cut]:
        """In the order in which they can be made."""
        made = [self._log.cut(first_seed + i, self._run.start) for i in range(count)]
        return sorted(made, key=lambda cut: cut.base)

    def disk_after(self, cut: Cut) -> tuple[Path, int]:
        """An image of the disk after the cut, and how many of the unflushed bytes it lacks."""
        self._log.apply(self._sound, self._until, cut.base)
        self._until = cut.base
        image = self._run.directory / "state"
        copy_image(self._sound, image)
        return image, self._log.apply_torn(image, cut)

    def check(self, cut: Cut) -> None:
        """Raises PowerFailed when the store has not what was promised."""
        image, missing = self.disk_after(cut)
        try:
            told = survey(image, self._run.directory, cut)
        except AssertionError as error:
            again = f"python -m {__spec__.name} '{self._run.directory}' {cut.seed}"
            raise PowerFailed(f"{cut}, {missing} bytes missing; again: {again}\n{error}") from None
        print(f"{cut}: {missing} bytes missing; {told}")

    def close(self) -> None:
        self._log.close()


def survey(image: Path, run: Path, cut: Cut) -> str:
    """Look at the store on an image; returns what there is to say. Raises AssertionError."""
    with ext4_of(image, run / "after") as disk:
        arguments = [str(disk / "store"), str(run), str(cut.end), str(cut.never)]
        call = Call(arguments, os.environ, str(ROOT), program="tests.crash.powercut.survey")
        done = launcher.run(call, SURVEY_TIMEOUT_S)
    if done.returncode:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr}")
    return done.stdout.strip().rpartition("\n")[2]


def main() -> None:
    machine = Machine(Run(Path(sys.argv[1])))
    for cut in machine.cuts(int(sys.argv[2]), 1):
        machine.check(cut)


if __name__ == "__main__":
    main()
