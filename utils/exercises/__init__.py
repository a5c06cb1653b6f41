"""The checks behind the exercises: one module per chapter."""
