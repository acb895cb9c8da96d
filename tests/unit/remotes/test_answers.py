"""What is told of what object stores answer."""

import pytest

from fusefs.errors import RemoteDenied, RemoteError, RemoteUnreachable
from fusefs.remotes import answers

NOW_S = 1795341600.0


class Unexpected(Exception):
    """Named as OpenDAL's."""


SENT = "url: http://h/b/a?sig=SECRET, called: send, service: s3, path: a"
#: Of calls, and, on one line, of opened files.
LOST = Unexpected(
    "Unexpected (temporary) at stat => send http request\n\nContext:\n   url: http://h/b?sig=SECRET"
    "\n\nSource:\n   error sending request: connection reset\n"
)
LOST_BY_FILE = OSError(
    f"Unexpected (temporary) at write, context: {{ {SENT} }} => send http request, source: error"
    " sending request: connection reset"
)
DENIED_BY_FILE = PermissionError(
    f"PermissionDenied (permanent) at write, context: {{ {SENT}, response: Parts {{ status: 403,"
    ' headers: {"date": "Sun, 22 Nov 2026 10:00:00 GMT"} } } => S3Error { code: "AccessDenied",'
    ' message: "Access Denied." }'
)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (LOST, RemoteUnreachable, "connection reset"),
        (LOST_BY_FILE, RemoteUnreachable, "connection reset"),
        (DENIED_BY_FILE, RemoteDenied, "the key has no right to that (AccessDenied)"),
    ],
)
def test_what_went_wrong_is_told_in_a_line_without_secrets(
    error: Exception, kind: type[RemoteError], said: str
) -> None:
    told = answers.error_of(answers.read(error), "place: a", NOW_S)
    assert type(told) is kind
    assert said in str(told)
    assert "\n" not in str(told)
    assert "SECRET" not in str(told)
