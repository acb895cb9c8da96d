"""What every room may use: clock, durable small files, failpoints, byte units. Knows no other room but errors."""
