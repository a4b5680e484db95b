"""From the bytes of records to values and columns, and what becomes of those that break a rule."""
