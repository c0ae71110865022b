"""Metrics, traces and health: what operators see. It observes the other rooms and decides nothing in them."""
