"""Chunk transfer, sans-IO: how an object is cut up, asked for piece by piece, checked and put together again."""
