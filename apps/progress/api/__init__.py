"""REST of progress: translate in, translate out."""
