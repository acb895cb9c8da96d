"""fusefs remote test: whether a place can keep copies, and how fast it is."""

import os
from typing import TYPE_CHECKING, Any

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.where import Secrets, Where, reached

if TYPE_CHECKING:
    from fusefs.errors import RemoteError
    from fusefs.remotes.contract import Outcome, Speed, Trial


def try_out(where: Where, secrets: Secrets = "", as_json: Json = False) -> None:
    """Put a place to all that is asked of a remote; measure it; leave nothing there.

    The exit code is that of the first failure: 61 unreachable, 62 denied, 63 no such bucket or
    directory, 64 full, 65 read-only, 69 a URL or secrets that make no sense, 60 a promise that it
    does not keep. About 60 MiB are sent and fetched.

    \b
    Example:
      fusefs remote test file:///mnt/usb/backup
      fusefs remote test 's3://bucket/laptop?region=eu-1' --secrets file:/etc/fusefs/bucket
      fusefs remote test ~/mnt usb
    """
    from fusefs.base.clock import SystemClock
    from fusefs.remotes.contract import Trial
    from fusefs.remotes.retry import Policy, Retrying

    # Users' remotes are tried again as well; not for long here, where somebody waits.
    policy = Policy(attempts=3, first_delay_s=0.2)
    with reached(where, secrets) as (remote, _):
        trial = Trial(
            Retrying(remote, SystemClock(), policy=policy), f"fusefs-test/{os.urandom(8).hex()}/"
        )
        outcomes = _checked(trial, is_silent=as_json)
        errors = [outcome.error for outcome in outcomes if outcome.error]
        # Where even the first check fails, nothing was stored.
        speed = None if errors else _measured(trial, errors)
        if not outcomes[0].error:
            _clean(trial, errors)
    if as_json:
        output.as_json(
            {"place": remote.place, "checks": list(map(_record, outcomes))} | _rates(speed)
        )
    elif speed:
        output.line(
            f"round trip {speed.round_trip_s * 1000:.1f} ms, up {output.size(speed.up)}/s, "
            f"down {output.size(speed.down)}/s"
        )
    if errors:
        raise errors[0]


def _checked(trial: "Trial", *, is_silent: bool) -> "list[Outcome]":
    from fusefs.base.clock import SystemClock
    from fusefs.remotes import contract

    outcomes = []
    for outcome in contract.run(trial, SystemClock()):
        outcomes.append(outcome)
        if not is_silent:
            output.line(_line(_record(outcome)))
    return outcomes


def _measured(trial: "Trial", errors: "list[RemoteError]") -> "Speed | None":
    from fusefs.base.clock import SystemClock
    from fusefs.errors import RemoteError
    from fusefs.remotes import contract

    try:
        return contract.measure(trial, SystemClock())
    except RemoteError as error:
        errors.append(error)
        return None


def _clean(trial: "Trial", errors: "list[RemoteError]") -> None:
    from fusefs.errors import RemoteError
    from fusefs.remotes import contract

    try:
        contract.clean(trial)
    except RemoteError as error:
        errors.append(error)
        output.complain(f"{trial.remote.place}: objects below {trial.scratch} may be left")


def _rates(speed: "Speed | None") -> dict[str, Any]:
    return {
        "round_trip_s": speed and speed.round_trip_s,
        "up_bytes_per_s": speed and int(speed.up),
        "down_bytes_per_s": speed and int(speed.down),
    }


def _record(outcome: "Outcome") -> dict[str, Any]:
    state = "failed" if outcome.error else "skipped" if outcome.skipped else "ok"
    return {
        "check": outcome.check,
        "state": state,
        "seconds": round(outcome.seconds, 4),
        "message": str(outcome.error) if outcome.error else outcome.skipped,
    }


def _line(record: dict[str, Any]) -> str:
    message = f"  {output.printable(record['message'])}" if record["message"] else ""
    return f"{record['state']:<8}{record['check']:<16}{record['seconds']:8.2f} s{message}"
