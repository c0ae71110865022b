"""How live updates reach many sockets, on this platform and beside what one would build by hand."""
