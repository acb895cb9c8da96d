"""Pure values and their codecs: what a row of the index means, byte by byte. Does no I/O."""
