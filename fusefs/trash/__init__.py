"""The trash: what a removed name becomes, and the way back.

    trash       the policy that the tree asks: unlink, rmdir, rename-over move into ``.trash``
    restore     back to the old path, or to another

``.trash/<UTC day and hour>/<original path>`` is a tree of real directories that mirror the live
ones, so that ordinary tools can look and take back: one ``mv`` undoes an ``rm -rf``.
"""
