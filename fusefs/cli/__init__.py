"""The command line: parse, call, print, exit codes. One file per verb.

::

    app             the program: its verbs, and the one place where errors become exit codes
    mount_helper    mount.fusefs, what mount(8) and fstab call
    instance        what a systemd instance name stands for
    unlocking       where the key of an encrypted store comes from
    reaching        a store, whoever has it open
    arguments       arguments that several verbs share
    interrupt       Ctrl-C for verbs that go on until then
    places          what an argument of a copy stands for
    progress        bars, at a terminal
    output          tables, JSON, sizes, names with odd bytes

Called by nobody. Knows the daemon's room and no other way to a store; prints nothing but through
`output`. Everything heavy is imported inside a verb, because each command and each press of TAB
pays for what stands at the top of these modules.
"""
