"""The program behind tools/bench: how fast is a directory, whatever filesystem it is on?

It is no part of fusefs and is not installed with it. It runs without root and needs the standard
library alone; of fusefs it uses what finds a mount and its daemon. Top to bottom::

    command                     arguments, messages, exit codes
    content | names | trees     the workloads: bytes, small files, whole trees
    run                         what they share: timing, cold caches, recording
    result                      medians, ratios, the table and the JSON
    place | daemon | machine    a directory of our own; CPU seconds; what it runs on
    rows                        what is measured: names, units, one line of help each
"""
