"""What can be asked by name, of the daemon or of a store opened in this process.

A desk answers for one thing. Each of its verbs is a method with a struct of arguments and the user
who asks; its table `VERBS` is how the control socket and the CLI find them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec


class Verb(NamedTuple):
    """How a verb is done: with `arguments`, by a method of the desk, for a user."""

    arguments: type[msgspec.Struct]
    perform: Callable[[Any, Any, int], Awaitable[Any]]


class Desk(Protocol):
    """Who answers for something."""

    VERBS: ClassVar[Mapping[str, Verb]]
