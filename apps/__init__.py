"""The apps of the platform, floor by floor (docs/house.md)."""
