"""What DO-Conv costs: `make bench`, or `python -m benchmarks NAME ...`."""
