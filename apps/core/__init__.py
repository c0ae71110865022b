"""What every app stands on: errors, clock, doorbells, the API's frame. Not one domain noun."""
