"""Python callables, registered by name: coroutines run in the worker's loop, synchronous ones in killable children."""
