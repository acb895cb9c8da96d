"""The manifest of a transfer: a Frictionless data package, put in place when all files are there.

::

    {
      "profile": "data-package", "name": "transfer-<uuid>", "id": "<uuid>",
      "created": "2026-11-21T09:08:07.123456Z",
      "description": "...", "instructions": {...},
      "contributors": [{"title": "alice", "role": "author"}],
      "source": ["store:/data"], "destination": "s3://bucket/in",
      "resources": [
        {"id": "sub/a.csv", "name": "sub/a.csv", "path": "sub/a.csv", "bytes": 3,
         "hash": "sha256:...", "blake3": "...", "format": "csv", "source": "store:/data"}
      ],
      "skipped": [{"path": "b.csv", "error": "..."}]
    }

The fields are those of https://specs.frictionlessdata.io/data-package/; `source`, `destination`,
`skipped` and `blake3` are ours. `instructions` is the text that came, byte for byte. The same
transfer has the same manifest whenever it is made. Resources may be none.
"""

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from fusefs.base.clock import utc
from fusefs.model.transfer import File, FileState, Specification
from fusefs.remotes import files
from fusefs.transfers.records import shown

#: Its name in the folder of the transfer; no file there may have it.
NAME = b"manifest.json"
#: The folder of temporaries beside it; nor may one have that.
PARTIAL = files.PARTIAL
_NOT_IN_NAMES = re.compile(r"[^-a-z0-9._/]+")


def make(asked: Specification, files: Iterable[File], created_ns: int) -> str:
    """The manifest as JSON, in ASCII; names of files may have lone surrogates for odd bytes."""
    resources: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    names = set[str]()
    for file in files:
        if file.state is FileState.MOVED:
            resource = _resource(asked, file, names)
            resources.append(resource)
        elif file.state is FileState.SKIPPED:
            skipped.append({"path": os.fsdecode(file.path), "error": file.error})
    package = {
        "profile": "data-package",
        "name": f"transfer-{shown(asked.id)}",
        "id": shown(asked.id),
        "created": utc(created_ns),
        "description": asked.description,
        "contributors": [{"title": asked.user, "role": "author"}],
        "source": [move.source.shown for move in asked.moves],
        "destination": asked.destination.shown,
        "resources": resources,
        "skipped": skipped,
    }
    text = json.dumps(package, indent=1)
    if not asked.instructions:
        return text + "\n"
    return f'{text[:-2]},\n "instructions": {asked.instructions}\n}}\n'


def _resource(asked: Specification, file: File, names: set[str]) -> dict[str, Any]:
    path = os.fsdecode(file.path)
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return {
        "id": path,
        "name": _name(path, file.number, names),
        "path": path,
        "bytes": file.size,
        "hash": f"sha256:{file.sha256.hex()}",
        "blake3": file.blake3.hex(),
        "format": ending.lower() if dot else "",
        "source": asked.moves[file.move].source.shown,
    }


def _name(path: str, number: int, names: set[str]) -> str:
    """What the specification allows in names, and unique among them."""
    name = _NOT_IN_NAMES.sub("-", path.lower())
    if name in names:
        name = f"{name}-{number}"
    names.add(name)
    return name
