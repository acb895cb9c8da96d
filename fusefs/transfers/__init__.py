"""Transfers: files brought from one place to another, orchestrated, recorded and proved.

::

    dispatcher --> stager --> mover --> manifestor
         |_____________ store ____________|          rows in the index, the queue, the journal

Each role is a task with an inbox. A change of status and the hand-off to the next role are one
batch, so a transfer is in exactly one place at every instant, whatever is killed.

Called by `daemon`. Knows the index and nothing of networks: bytes are moved by `agent`.
"""
