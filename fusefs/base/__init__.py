"""What every room may use: clock, events, small durable files, counts, failpoints.

Knows no other room.
"""
