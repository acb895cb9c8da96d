"""The seam to content that is not on this disk, or not as it should be."""

from typing import Protocol

from fusefs.errors import NotLocal
from fusefs.store.log import Buffer


class Elsewhere(Protocol):
    """Copies of content in other places."""

    async def fetch(self, wanted: NotLocal, tries: int) -> None:
        """Bring what is wanted here, or raise NotLocal with the reason, in bounded time.

        `tries`: how often that was done for this reader, and what came did not verify.
        """

    async def heal(self, number: int) -> Buffer | None:
        """The content of a block that is bad here, written anew if that may be; None without a copy
        that verifies."""

    def expect(self, wanted: NotLocal) -> None:
        """Have what is wanted soon on its way, if there is nothing better to do."""


class _Nowhere:
    """There is no other place."""

    async def fetch(self, wanted: NotLocal, tries: int) -> None:
        raise wanted

    async def heal(self, number: int) -> Buffer | None:
        return None

    def expect(self, wanted: NotLocal) -> None:
        """Nothing comes."""


NOWHERE = _Nowhere()
