"""What needs a GPU: `pytest -m gpu tests/gpu` for answers, `python -m tests.gpu` for answers and figures."""
