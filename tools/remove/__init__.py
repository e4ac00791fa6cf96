"""
Leave a host as if it had never been a relay: ``python -m tools.remove RELAY``.

What is there is told first, and deleted only when the relay's domain was typed. Units, configuration, programs, users,
mail and keys go, and so do the packages of the daemons: their configuration was the relay's, and a mail server without
one is in the way of the next. Libraries, restic and nftables stay, for nobody knows who else on the host needs them. An
interrupted run is run again: ``/etc/chatmail``, which knows the domain, goes last.
"""
