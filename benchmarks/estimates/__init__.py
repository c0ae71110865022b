"""How good estimates are: the product's own beside simple ones, on generated workflows and on recorded traces."""
