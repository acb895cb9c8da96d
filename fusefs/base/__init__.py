"""What every room may use: clock, events, small durable files, counts, memory, failpoints.

Knows no other room.
"""
