"""What the shared cache holds is JSON: Django's own would unpickle whatever somebody put into Redis."""

import json
from typing import Any


class JSONSerializer:
    """Of Django's `RedisCache`: JSON values only; whole numbers can be counted up as they lie there."""

    def dumps(self, value: Any) -> bytes:
        """The value as bytes. Raises TypeError for what JSON does not know."""
        return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        """The value. Raises ValueError for what is no JSON."""
        return json.loads(data)
