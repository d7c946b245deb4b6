"""Measurements of Stratum as a user meets it: start of the server, search, durability of writes.

Run `python -m stratum_bench --help`. Uses the public API of `stratum`; `raw.py` alone looks below
it, to compare single indexes. No figure is kept here: every run measures all rivals anew.
"""
