"""HTTP (RFC 9112): the server of those services that nginx asks."""
