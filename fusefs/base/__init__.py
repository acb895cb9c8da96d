"""What every room may use: clock, durable small files, counts, failpoints. Knows no other room."""
