"""The figures of the page: each function takes plain values and returns a Drawn."""
