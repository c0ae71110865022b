"""The composition root: settings, routes, the server's entry point."""
