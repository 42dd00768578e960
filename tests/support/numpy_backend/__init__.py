"""A backend on NumPy alone: what `docs/contributing/add-a-framework.md` asks of a new one."""
