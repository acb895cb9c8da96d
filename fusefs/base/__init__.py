"""What every room may use: clock, durable small files, failpoints. Knows no other room."""
