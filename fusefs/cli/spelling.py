"""Command lines as the parser understands them.

``--read-data=PART`` of ``fsck`` is an option with or without a value, which is nothing that the
parser knows: with a value it becomes another option.
"""

PART_OPTION = "--read-data-part"


def spelled(argument: str) -> str:
    """The argument as the parser understands it."""
    head, equals, value = argument.partition("=")
    return f"{PART_OPTION}={value}" if equals and head == "--read-data" else argument
