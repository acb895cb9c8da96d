"""The face that the kernel sees, through pyfuse3; the only room that imports it.

    mount        a mount and its main loop
    operations   the request handlers: each is short, and translates FUSE to the rooms
    relay        what the session is to do for us that libfuse cannot ask for
    references   what the kernel still refers to
    wait         how requests are waited for

Measured on pyfuse3 3.5: some 60 of 80 us of CPU for a request went into waiting for the device
through trio; see `wait`.
"""
