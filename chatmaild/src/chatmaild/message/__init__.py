"""What is in a message: addresses (RFC 5322), MIME (RFC 2045), OpenPGP (RFC 9580), DKIM signatures (RFC 6376)."""
