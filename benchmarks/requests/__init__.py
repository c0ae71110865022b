"""Requests per second of the endpoints that are asked most, beside bare DRF views under the same server."""
