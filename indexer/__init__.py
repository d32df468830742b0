"""What remembers: object and dot records, Hamming shards, catalogue, readers, signals, the picture store."""
