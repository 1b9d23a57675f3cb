"""Whether the benchmarks run, judge and write what they say."""
