"""Speed, memory and FLOPs of encoders, with the spread and the machine beside every number."""
