"""The figures of docs/benchmarks.md, measured on the machine at hand: `python -m bench`."""
