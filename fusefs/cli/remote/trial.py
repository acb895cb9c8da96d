"""fusefs remote test: whether a place can keep copies, and how fast it is."""

import os
from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json

Secrets = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="Where the secrets are: file:/path, env:PREFIX or credential:NAME.",
        show_default=False,
    ),
]


def try_out(
    url: Annotated[str, typer.Argument(help="Such as s3://bucket/prefix or file:///dir.")],
    secrets: Secrets = "",
    as_json: Json = False,
) -> None:
    """Put a place to all that is asked of a remote; measure it; leave nothing there.

    The exit code is that of the first failure: 61 unreachable, 62 denied, 63 no such bucket or
    directory, 64 full, 65 read-only, 60 a promise that it does not keep.

    \b
    Example:
      fusefs remote test file:///mnt/usb/backup
      fusefs remote test 's3://bucket/laptop?region=eu-1' --secrets file:/etc/fusefs/bucket
    """
    from fusefs.base.clock import SystemClock
    from fusefs.errors import RemoteError
    from fusefs.remotes import contract
    from fusefs.remotes.address import connect
    from fusefs.remotes.secrets import read

    remote = connect(url, read(secrets, os.environ))
    clock = SystemClock()
    trial = contract.Trial(remote, f"fusefs-test/{os.urandom(8).hex()}/")
    failed: list[RemoteError] = []
    records: list[dict[str, Any]] = []
    speed = None
    left = 0
    try:
        for outcome in contract.run(trial, clock):
            records.append(_record(outcome))
            if outcome.error:
                failed.append(outcome.error)
            if not as_json:
                output.line(_line(records[-1]))
        if not failed:
            speed = contract.measure(trial, clock)
    except RemoteError as error:
        failed.append(error)
    finally:
        try:
            contract.clean(trial)
        except RemoteError as error:
            left = 1
            failed.append(error)
        remote.close()
    if as_json:
        output.as_json(
            {
                "place": remote.place,
                "checks": records,
                "round_trip_s": speed and speed.round_trip_s,
                "up_bytes_per_s": speed and int(speed.up),
                "down_bytes_per_s": speed and int(speed.down),
                "is_clean": not left,
            }
        )
    elif speed:
        output.line(
            f"round trip {speed.round_trip_s * 1000:.1f} ms, up {output.size(speed.up)}/s, "
            f"down {output.size(speed.down)}/s"
        )
    if left and len(records) > 1:
        output.complain(f"{remote.place}: objects below {trial.scratch} may be left")
    if failed:
        raise failed[0]


def _record(outcome: Any) -> dict[str, Any]:
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
