"""Uploads: files that a sender has announced, with their size and what it knows its source by.

    uploads    an upload from its announcement to its name: what is there, what is missing, the end
    content    does a file hold the blocks of these digests, by proof
    sending    who sends: is it alive, which part is it at
    counts     how much was asked, found, needed, received

An upload is a file with a row of `model.partial` that has an `Upload`: a *staging file* beside the
name that it is to get. The sender makes it and writes to it through the mount; here it is told what
it need not send. The row survives everything, so any later sender of the same source goes on.

Called by the daemon's desk. Knows neither the control socket nor the kernel's caches.
"""
