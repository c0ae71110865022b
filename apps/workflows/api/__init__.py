"""REST: translate in, call one service or selector, translate out."""
