"""fusefs version: what runs here."""

from fusefs import __version__
from fusefs.cli import output
from fusefs.cli.arguments import Json

_LIBRARIES = ("pyfuse3", "trio", "lmdb", "blake3", "xxhash", "zstandard", "PyNaCl", "argon2-cffi")


def version(as_json: Json = False) -> None:
    """Show the versions of fusefs, of the store format, and of what they stand on.

    \b
    Example:
      fusefs version --json
    """
    import platform
    from importlib import metadata

    from fusefs.store.identity import FORMAT

    record = {"fusefs": __version__, "format": str(FORMAT), "python": platform.python_version()}
    record |= {name: metadata.version(name) for name in _LIBRARIES}
    if as_json:
        output.as_json(record)
    else:
        output.fields(record.items())
