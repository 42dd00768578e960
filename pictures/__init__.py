"""The pictures of the documentation, its first page, and the tables that come from kept results."""
