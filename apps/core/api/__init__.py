"""The frame every API answer passes through: request id, headers, problems, parsers, renderers, pages of lists."""
