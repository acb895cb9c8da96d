"""A clock that stands still until a test moves it."""


class ManualClock:
    """All clocks of a machine; satisfies base.clock.Clock.

    `advance` lets time pass, `jump` sets the wall clock alone, `reboot` begins another run of the
    machine.
    """

    def __init__(self, now_ns: int = 1_800_000_000 * 10**9) -> None:
        self.now_ns = now_ns
        self.passed_ns = 10**6 * 10**9
        self.booted_ns = 0
        self.boots = 0

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.passed_ns / 1e9

    def uptime_ns(self) -> int:
        return self.passed_ns - self.booted_ns

    def boot_id(self) -> str:
        return f"boot {self.boots}"

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        self.passed_ns += int(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def reboot(self) -> None:
        self.boots += 1
        self.booted_ns = self.passed_ns
