"""Settings: base, and where development, production and tests differ."""
