"""What every room may use: clock, events, small durable files, counts, memory, failpoints, worker.

Knows no other room.
"""
