"""How much was asked, found, needed and received, since the mount."""

from dataclasses import dataclass


@dataclass
class UploadCounts:
    """`requests`: offers that were answered. `already_present_bytes` and `needed_bytes`: what they
    were answered with. `received_bytes`: what was written to staging files. `resumes`: uploads
    that were begun again with some of it there. `finished`, `aborted`: uploads."""

    requests: int = 0
    already_present_bytes: int = 0
    needed_bytes: int = 0
    received_bytes: int = 0
    resumes: int = 0
    finished: int = 0
    aborted: int = 0
