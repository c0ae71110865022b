"""Alerts: one catalogue, evaluated here where no Prometheus is, told to whoever is to know, with a page for each."""
