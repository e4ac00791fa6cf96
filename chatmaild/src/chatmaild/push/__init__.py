"""Device tokens, and the notifications that wake devices."""
