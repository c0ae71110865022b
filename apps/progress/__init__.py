"""Live progress: what somebody watches, told without a loss."""
