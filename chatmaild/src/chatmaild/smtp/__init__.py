"""SMTP (RFC 5321): the server that Postfix hands messages to, and the client that hands them back."""
