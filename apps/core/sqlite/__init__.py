"""Django's SQLite backend with WAL, full durability and a fair queue of writers."""
