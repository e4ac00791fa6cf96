"""A storm: messages between two relays while daemons and whole hosts are killed, and calamities of the host.

Not one message that got a 250 may be lost, none may come twice but where its sender got no answer, and nobody may be
told "for good" (5xx) about what will pass.
"""
