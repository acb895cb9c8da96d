"""What object stores answer, read out of OpenDAL's exceptions, as errors of ours.

The text of such an exception is several lines: the kind, whether it is temporary, the answer's
code and message, and the whole request with its headers. The request may hold a signature that is
as good as the secret (Azure's SAS is in its URL), so the text as such never leaves this module:
what is told is picked out of it, and chained exceptions are not kept.
"""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from fusefs.errors import (
    BadRemote,
    NoSuchObject,
    RemoteDenied,
    RemoteError,
    RemoteFull,
    RemoteMissing,
    RemoteReadOnly,
    RemoteUnreachable,
)

#: Services allow 5 (Azure, Google) to 15 minutes (S3).
_SKEW_MAX_S = 300
_MISSING = {"NoSuchBucket", "ContainerNotFound", "NoSuchContainer", "InvalidBucketName",
            "no_such_bucket", "bad_bucket_id"}  # fmt: skip
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "StorageFull",
         "XMinioAdminBucketQuotaExceeded", "storage_cap_exceeded", "cap_exceeded"}  # fmt: skip
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_LATER = {"ConditionalRequestConflict", "OperationAborted", "SlowDown", "ServerBusy"}
_LOCKED = 423
_LATER_STATUS = {408, _LOCKED, 429}
#: Of WebDAV, where a server does not tell a share that is full from one that takes no writes.
_REFUSED_STATUS = {405, 409}
_HINTS = {
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the service does not know this access key",
    "AuthenticationFailed": "the account key is wrong",
    "AccessDenied": "the key has no right to that",
    "bad_auth_token": "the application key is wrong",
}


@dataclass(frozen=True)
class Answer:
    """The parts of an exception. `status`: of HTTP, 0 for none. `date_s`: of the answer, or 0."""

    kind: str
    is_temporary: bool
    code: str
    message: str
    status: int
    date_s: float

    @property
    def is_beyond_end(self) -> bool:
        """Of a read: the range lies, in part, behind the end of the object."""
        return (
            self.kind == "RangeNotSatisfied" or self.status == 416
            or "too little data" in self.message
        )  # fmt: skip

    @property
    def is_locked(self) -> bool:
        """Another is just writing there."""
        return self.status == _LOCKED

    @property
    def exists(self) -> bool:
        """Of a conditional write: there is an object of that name."""
        return self.kind in ("ConditionNotMatch", "AlreadyExists")


def read(error: Exception) -> Answer:
    """The parts of one of OpenDAL's exceptions."""
    text = str(error)
    first, _, rest = text.partition("\n")
    request, _, head = first.partition("=> ")
    rest = rest or request  # those of opened files are one line
    cause = rest.partition("Source:\n")[2].strip().partition("\n")[0]
    status = _found(r"\bstatus: (\d{3})", rest)
    return Answer(
        kind=text.partition(" ")[0] if isinstance(error, OSError) else type(error).__name__,
        is_temporary="(temporary)" in first,
        code=_found(r'\bcode: "([A-Za-z_]{1,60})"', head),
        message=(cause or _found(r'\bmessage: "([^"]*)"', head) or head.partition("{")[0]).strip(),
        status=int(status or 0),
        date_s=_date_s(_found(r'"date": "([^"]+)"', rest)),
    )


def error_of(answer: Answer, what: str, now_s: float) -> RemoteError:
    """The error for an answer. `what`: the place and the object, for the message."""
    kind, code, status = answer.kind, answer.code, answer.status
    said = " ".join(filter(None, (code, answer.message))) or (f"HTTP {status}" if status else kind)
    if code in _MISSING or (kind == "NotFound" and "bucket does not exist" in answer.message):
        return RemoteMissing(f"{what}: no such bucket or container: make it first ({said})")
    if code in _FULL or status == 507:
        return RemoteFull(f"{what}: no room is left there ({said})")
    if kind == "NotFound":
        return NoSuchObject(f"{what}: no such object")
    if kind == "PermissionDenied" or status in (401, 403) or code in _SKEWED:
        return RemoteDenied(f"{what}: {_denied(answer, said, now_s)}")
    if status in _REFUSED_STATUS and not code:
        return RemoteReadOnly(f"{what}: it takes no writes: read-only, or no room is left ({said})")
    if answer.is_temporary or kind == "RateLimited" or code in _LATER or status in _LATER_STATUS:
        return RemoteUnreachable(f"{what}: {said}")
    if status >= 500:
        return RemoteUnreachable(f"{what}: HTTP {status} {said}")
    if kind == "ConfigInvalid":
        return BadRemote(f"{what}: {said}")
    return RemoteError(f"{what}: {said}")


def _denied(answer: Answer, said: str, now_s: float) -> str:
    """Why: clocks that differ look like a wrong secret to many services."""
    off_s = answer.date_s - now_s if answer.date_s else 0.0
    if abs(off_s) > _SKEW_MAX_S or answer.code in _SKEWED:
        by = f" by {abs(off_s) / 60:.0f} minutes" if abs(off_s) >= 60 else ""
        return f"the clocks of this machine and of the service differ{by}: set this one's"
    if hint := _HINTS.get(answer.code):
        return f"access denied: {hint} ({answer.code})"
    return f"access denied: check the secrets and the rights that they give ({said})"


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def _date_s(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
