"""Benchmarks of Stratum that anyone can repeat; uses only the public API of `stratum`."""
