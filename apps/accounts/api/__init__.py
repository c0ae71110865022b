"""What a request to the API must bring, and the endpoints under /auth."""
