"""A backend on NumPy alone, the example of `docs/contributing/add-a-framework.md`."""
