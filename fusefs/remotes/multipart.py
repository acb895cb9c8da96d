"""Multipart uploads in an S3 bucket that were begun and never ended: found and aborted.

An object that is larger than one request is an upload until its writer ends it. That of a writer
that was killed, or lost its connection for good, is there for ever, in no listing of objects, and
its parts are paid for. OpenDAL begins uploads and does not tell which; botocore lists and aborts
them. It costs 22 MiB and 0.2 s of processor time, so it is imported only where it is needed.

As in `services`, nothing is taken from the environment or from configuration files of other tools.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
from botocore import UNSIGNED
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from fusefs.errors import RemoteUnreachable
from fusefs.remotes.address import Address
from fusefs.remotes.secrets import Secrets

_CONNECT_S, _ANSWER_S = 10.0, 30.0
#: Of services that know no such request, and of keys that have no right to it; the next request
#: says what is wrong if it is anything else.
_NOT_FOR_US = frozenset({400, 401, 403, 404, 405, 501})

log = structlog.get_logger(__name__)


class Uploads:
    """Those in the bucket of an address."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Nothing is sent."""
        options = address.options
        self._place = address.place
        self._secrets = secrets
        self._bucket = address.host
        style = "virtual" if options.get("virtual_host") else "path"
        self._client = _session().create_client(
            "s3",
            region_name=options.get("region", "us-east-1"),
            endpoint_url=options.get("endpoint"),
            aws_access_key_id=secrets.get("access_key_id"),
            aws_secret_access_key=secrets.get("secret_access_key"),
            aws_session_token=secrets.get("session_token"),
            config=Config(
                connect_timeout=_CONNECT_S,
                read_timeout=_ANSWER_S,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": style},
                signature_version=UNSIGNED if options.get("anonymous") else None,
            ),
        )

    def abort(self, prefix: str, is_ours: Callable[[str], bool] = lambda _key: True) -> int:
        """Abort those whose keys begin with `prefix`, and are ours; returns how many there were.

        0 where the service does not let us look. Raises RemoteUnreachable.
        """
        aborted = 0
        with self._errors(prefix):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for upload in page.get("Uploads") or ():
                    # Not every service looks at the prefix.
                    if upload["Key"].startswith(prefix) and is_ours(upload["Key"]):
                        self._abort(upload["Key"], upload["UploadId"])
                        aborted += 1
        if aborted:
            log.info("unfinished uploads were aborted", place=self._place, uploads=aborted)
        return aborted

    def _abort(self, key: str, upload: str) -> None:
        with suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    @contextmanager
    def _errors(self, prefix: str) -> Iterator[None]:
        what = f"{self._place}: unfinished uploads of {prefix}"
        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            said = self._secrets.hide(str(error))
            if status not in _NOT_FOR_US:
                raise RemoteUnreachable(f"{what}: {said}") from None
            log.warning("unfinished uploads cannot be looked for", place=self._place, error=said)
        except BotoCoreError as error:
            raise RemoteUnreachable(f"{what}: {self._secrets.hide(str(error))}") from None


def _session() -> Session:
    variables = {
        name: (None, None, *rest)
        for name, (_, _, *rest) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    return Session({**variables, "config_file": (None, None, os.devnull, None)})
